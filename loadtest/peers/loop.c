/* A chat room as a C programmer writes it by hand: one thread, one epoll loop, one send() a member a message.
 *
 * Every text frame goes unchanged to all members of its room, the sender included. What a socket does not take is kept,
 * up to 1 MiB a member; who needs more is dropped. With --batch all that waits for a member goes in one send() at the
 * end of a turn of the loop. It answers pings and closes, and has Nagle's algorithm off.
 * It does NOT: store, number, check UTF-8, take fragmented messages or messages above 1 MiB (both end the connection),
 * send pings of its own, compress, or speak TLS.
 *
 *     cc -O2 -o loop loop.c && ./loop --port=8889 [--batch]
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 512, CHUNK = 65536, HEAD_MAX = 8192, TEXT_MAX = 1 << 20, WAITING_MAX = 1 << 20, FLUSH_AT = 1 << 18 };

typedef struct { char *at; size_t size, room; } Bytes;

typedef struct Room Room;
typedef struct Member Member;

struct Member {
    int fd;
    unsigned place;      /* where in room->members */
    Room *room;          /* NULL until the handshake is through */
    Member *next_dead;
    char is_dead, wants_out;
    Bytes unread;        /* the beginning of a frame whose rest has not come yet */
    Bytes waiting;       /* what the socket did not take */
    size_t sent;         /* how much of `waiting` is gone */
};

struct Room {
    char *name;
    Member **members;
    unsigned count, places;
    Bytes pending;       /* with --batch: frames of this turn */
    char is_dirty;       /* is among the rooms to be flushed at the end of the turn */
    Room *next, *next_dirty;
};

static int epoll_fd, is_batching;
static Room *rooms, *dirty;
static Member *dead;

static void *checked(void *memory) {
    if (!memory) { perror("memory"); exit(1); }
    return memory;
}

static void append(Bytes *to, const void *what, size_t size) {
    if (to->size + size > to->room) {
        to->room = (to->size + size) * 3 / 2;
        to->at = checked(realloc(to->at, to->room));
    }
    memcpy(to->at + to->size, what, size);
    to->size += size;
}

static void forget(Bytes *bytes) {
    free(bytes->at);
    *bytes = (Bytes){0};
}

/* ---- members and rooms ---- */

static void kill_member(Member *one) {
    if (one->is_dead) return;
    one->is_dead = 1; /* freed at the end of the turn: somebody may be walking over the room */
    one->next_dead = dead;
    dead = one;
}

static void bury_the_dead(void) {
    while (dead) {
        Member *one = dead;
        dead = one->next_dead;
        if (one->room) {
            Room *room = one->room;
            Member *last = room->members[--room->count];
            room->members[one->place] = last;
            last->place = one->place;
        }
        close(one->fd);
        forget(&one->unread);
        forget(&one->waiting);
        free(one);
    }
}

static Room *room_named(const char *name, size_t size) {
    for (Room *room = rooms; room; room = room->next)
        if (strlen(room->name) == size && !memcmp(room->name, name, size)) return room;
    Room *room = checked(calloc(1, sizeof *room));
    room->name = checked(strndup(name, size));
    room->next = rooms;
    return rooms = room;
}

static void enter(Room *room, Member *one) {
    if (room->count == room->places) {
        room->places = room->places ? room->places * 2 : 16;
        room->members = checked(realloc(room->members, room->places * sizeof *room->members));
    }
    one->place = room->count;
    room->members[room->count++] = one;
    one->room = room;
}

/* ---- what goes out ---- */

static void watch(Member *one, int wants_out) {
    struct epoll_event event = {.events = EPOLLIN | (wants_out ? EPOLLOUT : 0), .data.ptr = one};
    if (one->wants_out != wants_out) epoll_ctl(epoll_fd, EPOLL_CTL_MOD, one->fd, &event);
    one->wants_out = (char)wants_out;
}

static void put(Member *one, const char *data, size_t size) {
    if (one->is_dead) return;
    if (!one->waiting.size) {
        ssize_t took = send(one->fd, data, size, MSG_NOSIGNAL);
        if (took < 0 && errno != EAGAIN) { kill_member(one); return; }
        if (took > 0) { data += took; size -= (size_t)took; }
        if (!size) return;
    }
    if (one->waiting.size - one->sent + size > WAITING_MAX) { kill_member(one); return; }
    append(&one->waiting, data, size);
    watch(one, 1);
}

static void put_waiting(Member *one) {
    ssize_t took = send(one->fd, one->waiting.at + one->sent, one->waiting.size - one->sent, MSG_NOSIGNAL);
    if (took < 0) {
        if (errno != EAGAIN) kill_member(one);
        return;
    }
    one->sent += (size_t)took;
    if (one->sent == one->waiting.size) {
        forget(&one->waiting);
        one->sent = 0;
        watch(one, 0);
    } else if (one->sent > WAITING_MAX / 2) { /* so that the buffer stays bounded for one who is always behind */
        one->waiting.size -= one->sent;
        memmove(one->waiting.at, one->waiting.at + one->sent, one->waiting.size);
        one->sent = 0;
    }
}

static void put_to_all(Room *room, const char *data, size_t size) {
    for (unsigned i = 0; i < room->count; i++) put(room->members[i], data, size);
}

static void flush(Room *room) {
    if (!room->pending.size) return;
    put_to_all(room, room->pending.at, room->pending.size);
    room->pending.size = 0;
}

static size_t frame_head(unsigned char *head, unsigned opcode, size_t size) {
    head[0] = (unsigned char)(0x80 | opcode);
    if (size < 126) { head[1] = (unsigned char)size; return 2; }
    if (size < 65536) {
        head[1] = 126; head[2] = (unsigned char)(size >> 8); head[3] = (unsigned char)size;
        return 4;
    }
    head[1] = 127;
    for (int i = 0; i < 8; i++) head[2 + i] = (unsigned char)((uint64_t)size >> (56 - 8 * i));
    return 10;
}

static void say(Room *room, const char *text, size_t size) {
    static Bytes frame; /* built once, sent as often as there are members */
    unsigned char head[10];
    Bytes *to = is_batching ? &room->pending : &frame;
    if (!is_batching) frame.size = 0;
    append(to, head, frame_head(head, 1, size));
    append(to, text, size);
    if (!is_batching) put_to_all(room, frame.at, frame.size);
    else if (to->size > FLUSH_AT) flush(room);
    else if (!room->is_dirty) { room->is_dirty = 1; room->next_dirty = dirty; dirty = room; }
}

static void flush_the_dirty(void) {
    for (; dirty; dirty = dirty->next_dirty) {
        flush(dirty);
        dirty->is_dirty = 0;
    }
}

static void answer(Member *one, unsigned opcode, const char *payload, size_t size) {
    char frame[127];
    unsigned char head[10];
    size_t head_size = frame_head(head, opcode, size);
    memcpy(frame, head, head_size);
    memcpy(frame + head_size, payload, size);
    put(one, frame, head_size + size);
}

/* ---- the handshake: RFC 6455 section 4.2, SHA-1 by FIPS 180-4 ---- */

static uint32_t rotated(uint32_t x, int by) { return x << by | x >> (32 - by); }

static void sha1(const char *text, size_t size, unsigned char digest[20]) { /* of at most 119 bytes */
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0}, w[80];
    unsigned char padded[128] = {0};
    size_t padded_size = size < 56 ? 64 : 128;
    memcpy(padded, text, size);
    padded[size] = 0x80;
    padded[padded_size - 2] = (unsigned char)(size >> 5);
    padded[padded_size - 1] = (unsigned char)(size << 3);
    for (unsigned char *block = padded; block < padded + padded_size; block += 64) {
        for (int i = 0; i < 16; i++)
            w[i] = (uint32_t)block[4 * i] << 24 | block[4 * i + 1] << 16 | block[4 * i + 2] << 8 | block[4 * i + 3];
        for (int i = 16; i < 80; i++) w[i] = rotated(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 80; i++) {
            uint32_t f = i < 20 ? ((b & c) | (~b & d)) + 0x5A827999 : i < 40 ? (b ^ c ^ d) + 0x6ED9EBA1
                       : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8F1BBCDC : (b ^ c ^ d) + 0xCA62C1D6;
            uint32_t next = rotated(a, 5) + f + e + w[i];
            e = d; d = c; c = rotated(b, 30); b = a; a = next;
        }
        h[0] += a; h[1] += b; h[2] += c; h[3] += d; h[4] += e;
    }
    for (int i = 0; i < 20; i++) digest[i] = (unsigned char)(h[i / 4] >> (24 - 8 * (i % 4)));
}

static void base64_of_20(const unsigned char in[20], char out[29]) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned char padded[21] = {0};
    memcpy(padded, in, 20);
    for (int i = 0; i < 7; i++) {
        uint32_t three = (uint32_t)padded[3 * i] << 16 | padded[3 * i + 1] << 8 | padded[3 * i + 2];
        for (int j = 0; j < 4; j++) out[4 * i + j] = letters[three >> (18 - 6 * j) & 63];
    }
    out[27] = '=';
    out[28] = 0;
}

static void accept_key(const char *key, char accepted[29]) {
    char joined[64];
    unsigned char digest[20];
    int size = snprintf(joined, sizeof joined, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    sha1(joined, (size_t)size, digest);
    base64_of_20(digest, accepted);
}

/* Returns how many bytes of `data` the request took: 0 while it is incomplete. */
static size_t shake_hands(Member *one, char *data, size_t size) {
    char *end = memmem(data, size, "\r\n\r\n", 4), response[256], accepted[29];
    if (!end) {
        if (size > HEAD_MAX) kill_member(one);
        return 0;
    }
    *end = 0;
    char *key = strcasestr(data, "\r\nSec-WebSocket-Key:");
    if (strncmp(data, "GET /ws", 7) || (data[7] != '?' && data[7] != ' ') || !key) {
        static const char refusal[] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        put(one, refusal, sizeof refusal - 1);
        kill_member(one);
        return 0;
    }
    key += strlen("\r\nSec-WebSocket-Key:");
    accept_key(key + strspn(key, " \t"), accepted);
    int response_size = snprintf(response, sizeof response,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: %s\r\n\r\n", accepted);
    data[strcspn(data, "\r")] = 0; /* from here on the first line alone */
    char *name = strstr(data, "?room=");
    if (!name) name = strstr(data, "&room=");
    name = name ? name + strlen("?room=") : "default";
    Room *room = room_named(name, strcspn(name, "& "));
    if (is_batching) flush(room); /* what was said before somebody came is not for him */
    put(one, response, (size_t)response_size);
    if (!one->is_dead) enter(room, one);
    return (size_t)(end - data) + 4;
}

/* ---- what comes in ---- */

/* Returns how many bytes of `data` the first frame took: 0 while it is incomplete. */
static size_t take_frame(Member *one, char *data, size_t size) {
    unsigned char *at = (unsigned char *)data;
    if (size < 2) return 0;
    unsigned opcode = at[0] & 15;
    uint64_t length = at[1] & 127;
    size_t head = length < 126 ? 2 : length == 126 ? 4 : 10;
    if (size < head + 4) return 0;
    if (head > 2) {
        length = 0;
        for (size_t i = 2; i < head; i++) length = length << 8 | at[i];
    }
    int is_whole_and_masked = (at[0] & 0xF0) == 0x80 && at[1] & 0x80;
    if (!is_whole_and_masked || length > TEXT_MAX || (opcode & 8 && length > 125)) { kill_member(one); return 0; }
    if (size < head + 4 + length) return 0;
    unsigned char *mask = at + head;
    char *payload = data + head + 4;
    for (size_t i = 0; i < length; i++) payload[i] ^= (char)mask[i & 3];
    if (opcode == 1) say(one->room, payload, length);
    else if (opcode == 9) answer(one, 10, payload, length);
    else if (opcode != 10) {
        if (opcode == 8) answer(one, 8, payload, length);
        kill_member(one);
    }
    return head + 4 + length;
}

static void take_in(Member *one) {
    static char chunk[CHUNK + 1]; /* one more, so that a handshake can be ended by a zero byte */
    char *data = chunk;
    ssize_t got = recv(one->fd, chunk, CHUNK, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) { kill_member(one); return; }
    size_t size = (size_t)got, done = 0;
    if (one->unread.size) {
        append(&one->unread, chunk, size);
        data = one->unread.at;
        size = one->unread.size;
    }
    while (!one->is_dead && done < size) {
        size_t took = one->room ? take_frame(one, data + done, size - done) : shake_hands(one, data + done, size - done);
        if (!took) break;
        done += took;
    }
    size -= done;
    if (one->is_dead || !size) {
        forget(&one->unread);
    } else if (data == chunk) {
        append(&one->unread, chunk + done, size);
    } else {
        memmove(data, data + done, size);
        one->unread.size = size;
    }
}

/* ---- the loop ---- */

static void let_in(int listening) {
    int fd, yes = 1;
    while ((fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        Member *one = checked(calloc(1, sizeof *one));
        one->fd = fd;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = one};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
    }
}

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t size = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&address, size) || listen(fd, 4096)) { perror("listen"); exit(1); }
    getsockname(fd, (struct sockaddr *)&address, &size);
    printf("http://localhost:%d/\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

int main(int count, char **arguments) {
    int port = 8889;
    for (int i = 1; i < count; i++) {
        if (!strcmp(arguments[i], "--batch")) is_batching = 1;
        else if (!strncmp(arguments[i], "--port=", 7)) port = atoi(arguments[i] + 7);
        else { fprintf(stderr, "usage: loop [--port=8889] [--batch]\n"); return 2; }
    }
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int listening = listen_on(port);
    struct epoll_event events[EVENTS], newcomers = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listening, &newcomers);
    for (;;) {
        int ready = epoll_wait(epoll_fd, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            Member *one = events[i].data.ptr;
            if (!one) { let_in(listening); continue; }
            if (!one->is_dead && events[i].events & EPOLLOUT) put_waiting(one);
            if (!one->is_dead && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) take_in(one);
        }
        flush_the_dirty();
        bury_the_dead();
    }
}
