/* The sockets of the swarm: connecting, the handshake, frames in and out, in one epoll set.
 *
 * Owns the connections and its reading of RFC 6455; what a text says is none of its business. Invariant: nothing blocks
 * and nothing is allocated for a frame, unless a socket takes less than it is given, or a frame comes in two pieces.
 */

#include "swarm.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/net_tstamp.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

enum {
    READ_BYTES = 64 * 1024,
    MAX_FRAME_BYTES = 1024 * 1024,
    EVENTS = 64, /* between two looks at the clock */
    MEMBERS_AN_ADDRESS = 10000, /* of 28,000 ports that the kernel gives for each */
};

static Wire wire;
static int epoll_fd;
static int64_t realtime_offset_ns; /* CLOCK_REALTIME - CLOCK_MONOTONIC */
static uint8_t inbox[MAX_FRAME_BYTES + 16 + READ_BYTES];

static int64_t clock_ns(clockid_t which)
{
    struct timespec at;
    clock_gettime(which, &at);
    return at.tv_sec * (int64_t)SECOND_NS + at.tv_nsec;
}

int64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

/* The narrowest of some readings between which nothing else ran: one that was interrupted would be off by that. */
void compare_clocks(void)
{
    int64_t narrowest_ns = INT64_MAX;
    for (int attempt = 0; attempt < 8; attempt++) {
        int64_t before_ns = now_ns(), real_ns = clock_ns(CLOCK_REALTIME), after_ns = now_ns();
        if (after_ns - before_ns < narrowest_ns) {
            narrowest_ns = after_ns - before_ns;
            realtime_offset_ns = real_ns - before_ns - narrowest_ns / 2;
        }
    }
}

static void leave(Member *member, const char *why)
{
    close(member->fd); /* which takes it out of the epoll set */
    member->fd = -1;
    member->state = GONE;
    on_gone(member, why);
}

/* Bytes in and out */

/* When the kernel received the last byte that was read, by CLOCK_MONOTONIC; the time now if it does not say. */
static int64_t stamp_ns(struct msghdr *message)
{
    for (struct cmsghdr *each = CMSG_FIRSTHDR(message); each; each = CMSG_NXTHDR(message, each)) {
        if (each->cmsg_level == SOL_SOCKET && each->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec at;
            memcpy(&at, CMSG_DATA(each), sizeof at);
            return at.tv_sec * (int64_t)SECOND_NS + at.tv_nsec - realtime_offset_ns;
        }
    }
    counts.unstamped += wire.wants_stamps;
    return now_ns();
}

static ssize_t take_bytes(Member *member, void *into, size_t size, int64_t *at_ns)
{
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(struct timespec))];
    } control;
    struct iovec piece = {into, size};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    message.msg_control = &control;
    message.msg_controllen = sizeof control;
    ssize_t got = recvmsg(member->fd, &message, MSG_DONTWAIT);
    if (got > 0)
        *at_ns = stamp_ns(&message);
    return got;
}

static void watch(Member *member, int how, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = member};
    if (epoll_ctl(epoll_fd, how, member->fd, &event))
        fail("a socket cannot be watched: %s", strerror(errno));
}

static void append_bytes(Member *member, const void *what, size_t size)
{
    if (member->out_size + size > member->out_room) {
        member->out_room = 2 * (member->out_size + size);
        member->out = grown(member->out, member->out_room);
    }
    memcpy(member->out + member->out_size, what, size);
    member->out_size += size;
}

/* Put behind what is to be sent what TLS has to say. */
static void append_encrypted(Member *member)
{
    uint8_t piece[4096];
    for (size_t size; (size = take_encrypted(member, piece, sizeof piece));)
        append_bytes(member, piece, size);
}

static void append(Member *member, const void *what, size_t size)
{
    if (!member->tls) {
        append_bytes(member, what, size);
        return;
    }
    encrypt(member, what, size);
    append_encrypted(member);
}

/* Send what waits; what the socket does not take waits for epoll. */
void flush(Member *member)
{
    member->is_due_out = false;
    if (member->state == GONE || !member->out_size)
        return;
    ssize_t took = send(member->fd, member->out, member->out_size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (took < 0 && errno != EAGAIN && errno != EINTR) {
        leave(member, strerror(errno));
        return;
    }
    member->out_size -= took > 0 ? (size_t)took : 0;
    if (took > 0 && member->out_size)
        memmove(member->out, member->out + took, member->out_size);
    if ((member->out_size != 0) != member->awaits_room) {
        member->awaits_room = !member->awaits_room;
        watch(member, EPOLL_CTL_MOD, EPOLLIN | (member->awaits_room ? EPOLLOUT : 0u));
    }
}

/* Read what came, in the clear; -1 and EAGAIN if that is nothing yet. */
static ssize_t take(Member *member, void *into, size_t size, int64_t *at_ns)
{
    static uint8_t cipher[READ_BYTES];
    if (!member->tls)
        return take_bytes(member, into, size, at_ns);
    ssize_t got = take_bytes(member, cipher, size < sizeof cipher ? size : sizeof cipher, at_ns);
    if (got <= 0)
        return got;
    got = decrypted(member, cipher, (size_t)got, into, size);
    append_encrypted(member);
    flush(member);
    errno = EAGAIN;
    return got;
}

/* Frames */

void put_frame(Member *member, uint8_t opcode, const void *payload, size_t size)
{
    static const uint8_t key[4] = {0x5a, 0xc3, 0x17, 0x9e};
    static uint8_t frame[8 + 2 * MAX_TEXT_BYTES];
    size_t start = 2;
    frame[0] = FIN | opcode, frame[1] = (uint8_t)(0x80 | size);
    if (size > SMALL_BYTES) {
        frame[1] = 0x80 | 126, frame[2] = (uint8_t)(size >> 8), frame[3] = (uint8_t)size;
        start = 4;
    }
    memcpy(frame + start, key, sizeof key);
    start += sizeof key;
    memcpy(frame + start, payload, size);
    for (size_t at = 0; at < size; at++)
        frame[start + at] ^= key[at % 4];
    append(member, frame, start + size);
}

static void on_frame(Member *member, uint8_t head, const uint8_t *payload, size_t size, size_t frame_bytes,
                     int64_t at_ns)
{
    counts.frames++;
    if (head == (FIN | TEXT)) {
        on_text(member, payload, size, frame_bytes, at_ns);
    } else if (head == (FIN | PING) && size <= SMALL_BYTES) {
        put_frame(member, PONG, payload, size);
        flush(member);
    } else if (head == (FIN | PONG) && size <= SMALL_BYTES) {
        on_pong(payload, size, at_ns);
    } else if (head == (FIN | CLOSE)) {
        leave(member, "the server closed the connection");
    } else {
        counts.garbage++; /* nobody who is compared sends fragments or binary messages */
        leave(member, "the server sent what is no frame of a text");
    }
}

/* Read the length of the frame that `data` begins with and where its payload starts; false if they have not come. */
static bool measure(const uint8_t *data, size_t have, size_t *start, uint64_t *size)
{
    if (have < 2)
        return false;
    int digits = data[1] <= SMALL_BYTES ? 0 : data[1] == 126 ? 2 : 8;
    *start = 2 + (size_t)digits;
    if (have < *start)
        return false;
    *size = digits ? 0 : data[1];
    for (int at = 0; at < digits; at++)
        *size = *size << 8 | data[2 + at];
    return true;
}

/* Read the frames that are complete and return how many bytes they were. */
static size_t read_frames(Member *member, const uint8_t *data, size_t have, int64_t at_ns)
{
    size_t done = 0, start = 0;
    uint64_t size = 0;
    while (member->state != GONE && measure(data + done, have - done, &start, &size)) {
        if (data[done + 1] & 0x80 || size > MAX_FRAME_BYTES) {
            counts.garbage++;
            leave(member, "the server sent a frame that is masked or too long");
            break;
        }
        if (have - done - start < size)
            break;
        on_frame(member, data[done], data + done + start, (size_t)size, start + (size_t)size, at_ns);
        done += start + (size_t)size;
    }
    return done;
}

/* The handshake: the example of RFC 6455 section 1.3, whose right answer is known without a SHA-1 of our own. */

static void ask_to_enter(Member *member)
{
    char room[80], request[2048];
    if (member->room < 0)
        snprintf(room, sizeof room, "%s-aside", wire.room);
    else
        snprintf(room, sizeof room, wire.rooms > 1 ? "%s-%d" : "%s", wire.room, member->room);
    bool has_protocol = *wire.subprotocol;
    int size = snprintf(request, sizeof request,
                        "GET %s?room=%s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s%s%s\r\n",
                        wire.path, room, wire.host, wire.port, has_protocol ? "Sec-WebSocket-Protocol: " : "",
                        wire.subprotocol, has_protocol ? "\r\n" : "");
    append(member, request, (size_t)size);
    member->state = SHAKING;
    flush(member);
}

/* Read the answer and return its length, 0 if it is not there as a whole. */
static size_t read_answer(Member *member, const uint8_t *data, size_t have)
{
    const uint8_t *end = memmem(data, have, "\r\n\r\n", 4);
    if (!end)
        return 0;
    size_t size = (size_t)(end - data) + 4;
    static const char accept[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    if (memcmp(data, "HTTP/1.1 101", 12) || !memmem(data, size, accept, sizeof accept - 1))
        fail("a handshake was refused: %.*s", (int)strcspn((const char *)data, "\r\n"), (const char *)data);
    member->state = GREETED;
    on_greeted(member);
    return size;
}

/* Sockets */

static void keep(Member *member, const uint8_t *data, size_t size)
{
    if (size > member->rest_room) {
        member->rest_room = size + size / 2;
        member->rest = grown(member->rest, member->rest_room);
    }
    if (size)
        memcpy(member->rest, data, size);
    member->rest_size = size;
}

static void receive(Member *member)
{
    int64_t at_ns = 0;
    if (member->rest_size)
        memcpy(inbox, member->rest, member->rest_size);
    ssize_t got = take(member, inbox + member->rest_size, READ_BYTES, &at_ns);
    int trouble = errno;
    if (member->state == SECURING && is_secured(member))
        ask_to_enter(member);
    if (got < 0 && (trouble == EAGAIN || trouble == EINTR))
        return;
    if (got <= 0) {
        leave(member, got ? strerror(trouble) : "the connection was closed");
        return;
    }
    counts.bytes += (uint64_t)got;
    size_t have = member->rest_size + (size_t)got, done = 0;
    if (member->state == SHAKING)
        done = read_answer(member, inbox, have);
    if (member->state == GREETED || member->state == ENTERED)
        done += read_frames(member, inbox + done, have - done, at_ns);
    keep(member, inbox + done, have - done);
}

static void on_connected(Member *member)
{
    int trouble = 0;
    socklen_t size = sizeof trouble;
    getsockopt(member->fd, SOL_SOCKET, SO_ERROR, &trouble, &size);
    if (trouble)
        fail("nobody listens on %s:%d: %s", wire.host, wire.port, strerror(trouble));
    member->awaits_room = true; /* as epoll has it until the first bytes are sent */
    if (!wire.uses_tls) {
        ask_to_enter(member);
        return;
    }
    member->state = SECURING;
    begin_tls(member);
    append_encrypted(member);
    flush(member);
}

static int new_socket(int number)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;
    struct sockaddr_in from = {.sin_family = AF_INET};
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(number / MEMBERS_AN_ADDRESS));
    if (fd < 0)
        fail("no socket: %s", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (number >= MEMBERS_AN_ADDRESS && bind(fd, (struct sockaddr *)&from, sizeof from))
        fail("no address to come from: %s", strerror(errno));
    if (wire.wants_stamps && setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof one))
        fail("the kernel does not stamp what it receives: %s", strerror(errno));
    if (wire.receive_bytes)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &wire.receive_bytes, sizeof wire.receive_bytes);
    return fd;
}

/* Start to connect the member with this number, who says later that he is greeted. */
void begin_to_enter(Member *member, int number)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)wire.port)};
    if (inet_pton(AF_INET, wire.host, &to.sin_addr) != 1)
        fail("%s is no IPv4 address", wire.host);
    member->started_ns = now_ns();
    member->fd = new_socket(number);
    member->state = CONNECTING;
    if (connect(member->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS)
        fail("nobody listens on %s:%d: %s", wire.host, wire.port, strerror(errno));
    watch(member, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
}

void open_wire(const Wire *given)
{
    wire = *given;
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0)
        fail("no epoll: %s", strerror(errno));
    compare_clocks();
}

/* Handle what came, and wait for it until a time; signals come only in here. */
void await_frames(int64_t until_ns, const void *unblocked)
{
    struct epoll_event events[EVENTS];
    int64_t wait_ns = until_ns - now_ns();
    struct timespec wait = {0, 0};
    if (wait_ns > 0)
        wait = (struct timespec){wait_ns / SECOND_NS, wait_ns % SECOND_NS};
    int count = epoll_pwait2(epoll_fd, events, EVENTS, &wait, unblocked);
    for (int each = 0; each < count; each++) {
        Member *member = events[each].data.ptr;
        if (member->state == CONNECTING && events[each].events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
            on_connected(member);
        else if (member->awaits_room && events[each].events & EPOLLOUT)
            flush(member);
        if (member->state != GONE && events[each].events & (EPOLLIN | EPOLLERR | EPOLLHUP))
            receive(member);
    }
}

/* Read nothing more of a member. */
void look_away(Member *member)
{
    if (member->state != GONE && epoll_ctl(epoll_fd, EPOLL_CTL_DEL, member->fd, NULL))
        fail("a socket cannot be left alone: %s", strerror(errno));
}
