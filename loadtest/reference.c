/* An independent witness: members of a room who time every message of the load harness that they are sent.
 *
 * It sits in the same room in the same run and shares nothing with the harness but the form of the tag in a text
 * (`~` run 4, room 4, sender 2, seq 8, due_ns 16, late_ns 10, `m` or `w`, `~`; numbers in hex) and the clock
 * (CLOCK_MONOTONIC). It owns its sockets, its reading of RFC 6455 and its samples, all of which it keeps: percentiles
 * are taken from the sorted list. It must not know histograms, and nothing of what a server wraps a text in.
 * Invariant: a latency is the time of receipt minus the time the message was due; warm-up messages have none.
 *
 *     reference --port P [--host 127.0.0.1] [--path /ws?room=default] [--members 100] [--join-rate 0]
 *               [--subprotocol NAME] [--seconds 0]
 *
 * A join rate of 0 is as fast as it goes. It prints `entered N` when everybody is in, and one line of JSON after
 * SIGTERM, SIGINT or so many seconds. Linux only.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/net_tstamp.h>
#include <math.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    SECOND_NS = 1000000000,
    HANDSHAKE_S = 20,
    READ_BYTES = 65536,
    MAX_FRAME_BYTES = 16 * 1024 * 1024,
    EVENTS = 256,
    SMALL_BYTES = 125, /* the longest payload whose length fits the second byte */
    TAG_DIGITS = 44,
    DUE_AT = 18, /* in the digits */
    DUE_DIGITS = 16,
};
enum { CONTINUATION = 0x0, TEXT = 0x1, CLOSE = 0x8, PING = 0x9, PONG = 0xA, FIN = 0x80 };

typedef struct {
    int fd;
    uint8_t *data; /* what has been read of a frame that is not complete */
    size_t size, room;
} Member;

typedef struct {
    int64_t *ns;
    size_t count, room;
} Samples;

static struct {
    const char *host, *path, *subprotocol;
    int port, members;
    double join_rate, seconds;
} options = {"127.0.0.1", "/ws?room=default", "", 0, 100, 0, 0};

static volatile sig_atomic_t is_over;
static int64_t realtime_offset_ns; /* CLOCK_REALTIME - CLOCK_MONOTONIC */
static Samples user, kernel;
static long frames, warm, untagged, fragmented, pings, dropped, unstamped, early;

static _Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

static _Noreturn void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("reference: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void *grown(void *old, size_t size)
{
    void *found = realloc(old, size);
    if (!found)
        fail("no memory for %zu bytes", size);
    return found;
}

/* Clocks and samples */

static int64_t clock_ns(clockid_t which)
{
    struct timespec at;
    clock_gettime(which, &at);
    return at.tv_sec * (int64_t)SECOND_NS + at.tv_nsec;
}

static int64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

/* The narrowest of some readings between which nothing else ran: a reading that was interrupted would be off by that. */
static void compare_clocks(void)
{
    int64_t narrowest_ns = INT64_MAX;
    for (int attempt = 0; attempt < 16; attempt++) {
        int64_t before_ns = now_ns(), real_ns = clock_ns(CLOCK_REALTIME), after_ns = now_ns();
        if (after_ns - before_ns < narrowest_ns) {
            narrowest_ns = after_ns - before_ns;
            realtime_offset_ns = real_ns - before_ns - narrowest_ns / 2;
        }
    }
}

static void record(Samples *samples, int64_t ns)
{
    if (samples->count == samples->room) {
        samples->room = samples->room ? 2 * samples->room : 65536;
        samples->ns = grown(samples->ns, samples->room * sizeof *samples->ns);
    }
    samples->ns[samples->count++] = ns;
}

static int by_size(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

static void print_samples(const char *name, Samples *samples)
{
    static const struct {
        const char *name;
        double share;
    } percentiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}, {"max", 1}};
    qsort(samples->ns, samples->count, sizeof *samples->ns, by_size);
    printf(", \"%s\": {\"count\": %zu", name, samples->count);
    for (size_t each = 0; each < sizeof percentiles / sizeof *percentiles; each++) {
        printf(", \"%s\": ", percentiles[each].name);
        size_t rank = (size_t)ceil(percentiles[each].share * (double)samples->count);
        if (rank)
            printf("%.6f", (double)samples->ns[rank - 1] / 1e6);
        else
            fputs("null", stdout);
    }
    putchar('}');
}

/* Tags */

static bool is_digit(uint8_t byte) { return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f'); }

static bool is_tag(const uint8_t *digits)
{
    for (int at = 0; at < TAG_DIGITS; at++)
        if (!is_digit(digits[at]))
            return false;
    return (digits[TAG_DIGITS] == 'm' || digits[TAG_DIGITS] == 'w') && digits[TAG_DIGITS + 1] == '~';
}

/* Where the digits of the first tag are, or NULL. */
static const uint8_t *find_tag(const uint8_t *text, size_t size)
{
    const uint8_t *end = text + size;
    while ((text = memchr(text, '~', (size_t)(end - text))) && end - ++text >= TAG_DIGITS + 2)
        if (is_tag(text))
            return text;
    return NULL;
}

static int64_t due_ns(const uint8_t *digits)
{
    uint64_t due = 0;
    for (int at = DUE_AT; at < DUE_AT + DUE_DIGITS; at++)
        due = due << 4 | (uint64_t)(digits[at] <= '9' ? digits[at] - '0' : digits[at] - 'a' + 10);
    return (int64_t)due;
}

static void on_text(const uint8_t *text, size_t size, int64_t user_ns, int64_t kernel_ns)
{
    const uint8_t *digits = find_tag(text, size);
    if (!digits) {
        untagged++;
    } else if (digits[TAG_DIGITS] == 'w') {
        warm++;
    } else {
        int64_t due = due_ns(digits);
        record(&user, user_ns - due);
        record(&kernel, (kernel_ns ? kernel_ns : user_ns) - due);
        unstamped += !kernel_ns;
        early += user_ns < due || (kernel_ns && kernel_ns < due);
    }
}

/* Frames */

static void answer(Member *member, uint8_t opcode, const uint8_t *payload, size_t size)
{
    static const uint8_t key[4] = {0x5a, 0xc3, 0x17, 0x9e};
    uint8_t frame[6 + SMALL_BYTES] = {FIN | opcode, (uint8_t)(0x80 | size)};
    memcpy(frame + 2, key, sizeof key);
    for (size_t at = 0; at < size; at++)
        frame[6 + at] = payload[at] ^ key[at % 4];
    if (send(member->fd, frame, 6 + size, MSG_NOSIGNAL) < 0 && errno != EAGAIN)
        fprintf(stderr, "reference: a member could not answer: %s\n", strerror(errno));
}

static void leave(Member *member)
{
    close(member->fd); /* which takes it out of the epoll set */
    member->fd = -1;
    dropped++;
}

static void on_frame(Member *member, uint8_t head, const uint8_t *payload, size_t size, int64_t user_ns,
                     int64_t kernel_ns)
{
    frames++;
    if (head == (FIN | TEXT)) {
        on_text(payload, size, user_ns, kernel_ns);
    } else if (head == (FIN | PING) && size <= SMALL_BYTES) {
        pings++;
        answer(member, PONG, payload, size);
    } else if (head == (FIN | CLOSE) && size <= SMALL_BYTES) {
        answer(member, CLOSE, payload, size);
        leave(member);
    } else if (head == TEXT || (head & 0x7f) == CONTINUATION) {
        fragmented++; /* no server that this is compared on sends them */
    } else if (head != (FIN | PONG)) {
        fail("the server sent a frame that begins with %#x", head);
    }
}

/* Read the length of the frame that `data` begins with and where its payload starts; false if they are not there yet. */
static bool measure(const uint8_t *data, size_t have, size_t *start, uint64_t *size)
{
    if (have < 2)
        return false;
    if (data[1] & 0x80)
        fail("the server masked a frame");
    int digits = data[1] <= SMALL_BYTES ? 0 : data[1] == 126 ? 2 : 8;
    *start = 2 + (size_t)digits;
    if (have < *start)
        return false;
    *size = digits ? 0 : data[1];
    for (int at = 0; at < digits; at++)
        *size = *size << 8 | data[2 + at];
    if (*size > MAX_FRAME_BYTES)
        fail("the server announced a frame of %" PRIu64 " bytes", *size);
    return true;
}

static void read_frames(Member *member, int64_t user_ns, int64_t kernel_ns)
{
    size_t done = 0, start;
    uint64_t size;
    while (member->fd >= 0 && measure(member->data + done, member->size - done, &start, &size)) {
        if (member->size - done - start < size)
            break;
        uint8_t *payload = member->data + done + start;
        on_frame(member, member->data[done], payload, (size_t)size, user_ns, kernel_ns);
        done += start + (size_t)size;
    }
    member->size -= done;
    memmove(member->data, member->data + done, member->size);
}

/* Sockets */

/* The time at which the kernel received the last byte that was read, on CLOCK_MONOTONIC; 0 if it does not say. */
static int64_t stamp_ns(struct msghdr *message)
{
    for (struct cmsghdr *each = CMSG_FIRSTHDR(message); each; each = CMSG_NXTHDR(message, each)) {
        if (each->cmsg_level == SOL_SOCKET && each->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec at;
            memcpy(&at, CMSG_DATA(each), sizeof at);
            return at.tv_sec * (int64_t)SECOND_NS + at.tv_nsec - realtime_offset_ns;
        }
    }
    return 0;
}

static void receive(Member *member)
{
    if (member->room - member->size < READ_BYTES) {
        member->room = member->size + 2 * READ_BYTES;
        member->data = grown(member->data, member->room);
    }
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(struct timespec))];
    } control;
    struct iovec into = {member->data + member->size, READ_BYTES};
    struct msghdr message = {.msg_iov = &into, .msg_iovlen = 1};
    message.msg_control = &control;
    message.msg_controllen = sizeof control;
    ssize_t got = recvmsg(member->fd, &message, MSG_DONTWAIT);
    int64_t user_ns = now_ns();
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        leave(member);
        return;
    }
    member->size += (size_t)got;
    read_frames(member, user_ns, stamp_ns(&message));
}

/* Read the answer to the handshake byte by byte: what comes behind it is the server's first frame. */
static void read_answer(int fd, char *head, size_t room)
{
    size_t size = 0;
    while (size < 4 || memcmp(head + size - 4, "\r\n\r\n", 4)) {
        if (size + 1 == room)
            fail("the answer to the handshake does not end");
        ssize_t got = recv(fd, head + size, 1, 0);
        if (got <= 0)
            fail("the handshake was not answered: %s", got ? strerror(errno) : "the connection was closed");
        head[++size] = 0;
    }
}

static void shake_hands(int fd)
{
    /* The example of RFC 6455 section 1.3, whose right answer is known without a SHA-1 of our own. */
    static const char key[] = "dGhlIHNhbXBsZSBub25jZQ==", accept[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    char request[2048], head[8192];
    int size = snprintf(request, sizeof request,
                        "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n%s%s%s\r\n",
                        options.path, options.host, options.port, key,
                        *options.subprotocol ? "Sec-WebSocket-Protocol: " : "", options.subprotocol,
                        *options.subprotocol ? "\r\n" : "");
    if (size >= (int)sizeof request)
        fail("the path is too long");
    if (send(fd, request, (size_t)size, MSG_NOSIGNAL) != size)
        fail("the handshake could not be sent: %s", strerror(errno));
    read_answer(fd, head, sizeof head);
    if (strncmp(head, "HTTP/1.1 101", 12) || !strstr(head, accept))
        fail("the handshake was refused: %.*s", (int)strcspn(head, "\r\n"), head);
}

static int enter(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    if (inet_pton(AF_INET, options.host, &address.sin_addr) != 1)
        fail("%s is no IPv4 address", options.host);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    struct timeval patience = {.tv_sec = HANDSHAKE_S};
    if (fd < 0)
        fail("no socket: %s", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof one))
        fail("the kernel does not stamp what it receives: %s", strerror(errno));
    if (connect(fd, (struct sockaddr *)&address, sizeof address))
        fail("nobody listens on %s:%d: %s", options.host, options.port, strerror(errno));
    shake_hands(fd);
    return fd;
}

/* The run */

static void on_signal(int number)
{
    (void)number;
    is_over = 1;
}

static void listen_for_signals(sigset_t *unblocked)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t ending;
    sigemptyset(&ending);
    sigaddset(&ending, SIGTERM);
    sigaddset(&ending, SIGINT);
    sigprocmask(SIG_BLOCK, &ending, unblocked); /* they come while epoll waits, and only then: none is overlooked */
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
}

/* In a flood epoll never waits. */
static void let_signals_in(const sigset_t *unblocked)
{
    sigset_t blocked;
    sigprocmask(SIG_SETMASK, unblocked, &blocked);
    sigprocmask(SIG_SETMASK, &blocked, NULL);
}

static int entered;
static int64_t started_ns, compared_ns;

/* Let in who is due by now. */
static void let_in(int poll, Member *members)
{
    while (entered < options.members) {
        int64_t after_ns = options.join_rate > 0 ? (int64_t)(entered / options.join_rate * SECOND_NS) : 0;
        if (now_ns() < started_ns + after_ns)
            return;
        Member *member = &members[entered++];
        member->fd = enter();
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = member};
        if (epoll_ctl(poll, EPOLL_CTL_ADD, member->fd, &event))
            fail("a socket cannot be watched: %s", strerror(errno));
        if (entered == options.members) {
            printf("entered %d\n", entered);
            fflush(stdout);
        }
    }
}

static void run(Member *members)
{
    struct epoll_event events[EVENTS];
    sigset_t unblocked;
    int poll = epoll_create1(EPOLL_CLOEXEC);
    if (poll < 0)
        fail("no epoll: %s", strerror(errno));
    listen_for_signals(&unblocked);
    started_ns = now_ns();
    while (!is_over) {
        let_in(poll, members);
        int count = epoll_pwait(poll, events, EVENTS, entered < options.members ? 1 : 100, &unblocked);
        if (now_ns() - compared_ns > SECOND_NS) {
            let_signals_in(&unblocked);
            compare_clocks();
            compared_ns = now_ns();
        }
        for (int each = 0; each < count; each++)
            receive(events[each].data.ptr);
        if (options.seconds > 0 && (double)(now_ns() - started_ns) >= options.seconds * SECOND_NS)
            is_over = 1;
    }
}

static void parse_options(int count, char **arguments)
{
    static const struct option known[] = {
        {"host", required_argument, NULL, 'h'},        {"port", required_argument, NULL, 'p'},
        {"path", required_argument, NULL, 'a'},        {"members", required_argument, NULL, 'm'},
        {"join-rate", required_argument, NULL, 'j'},   {"subprotocol", required_argument, NULL, 's'},
        {"seconds", required_argument, NULL, 't'},     {NULL, 0, NULL, 0},
    };
    for (int found; (found = getopt_long(count, arguments, "", known, NULL)) != -1;) {
        switch (found) {
        case 'h': options.host = optarg; break;
        case 'p': options.port = atoi(optarg); break;
        case 'a': options.path = optarg; break;
        case 'm': options.members = atoi(optarg); break;
        case 'j': options.join_rate = atof(optarg); break;
        case 's': options.subprotocol = optarg; break;
        case 't': options.seconds = atof(optarg); break;
        default: exit(2);
        }
    }
    if (options.port < 1 || options.port > 65535 || options.members < 1)
        fail("--port and --members have to be numbers above 0");
}

static void allow_open_files(void)
{
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

int main(int count, char **arguments)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody is left who wants to know */
    parse_options(count, arguments);
    allow_open_files();
    compare_clocks();
    Member *members = calloc((size_t)options.members, sizeof *members);
    if (!members)
        fail("no memory for %d members", options.members);
    run(members);
    printf("{\"members\": %d, \"entered\": %d, \"dropped\": %ld, \"frames\": %ld, \"warm\": %ld, \"untagged\": %ld, "
           "\"fragmented\": %ld, \"pings\": %ld, \"unstamped\": %ld, \"early\": %ld",
           options.members, entered, dropped, frames, warm, untagged, fragmented, pings, unstamped, early);
    print_samples("user", &user);
    print_samples("kernel", &kernel);
    puts("}");
    return 0;
}
