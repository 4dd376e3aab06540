/* What the parts of the swarm share: its members, its counts, and who calls whom.
 *
 * swarm.c says when and what is said, swarm_options.c has been told so; swarm_wire.c has the sockets and RFC 6455,
 * swarm_tls.c what is under it; swarm_account.c has every text that was said, what each member heard of it, and the
 * histograms.
 */

#define _GNU_SOURCE
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { SECOND_NS = 1000000000, SMALL_BYTES = 125 /* the longest payload whose length fits the second byte */ };
enum { TEXT = 0x1, CLOSE = 0x8, PING = 0x9, PONG = 0xA, FIN = 0x80 };

typedef enum { ABSENT, CONNECTING, SECURING, SHAKING, GREETED, ENTERED, GONE } State;

typedef struct {
    int fd, room, place; /* a room below 0 is nobody's but the bystander's */
    State state;
    uint8_t *rest, *out; /* the beginning of a frame whose end has not come; what the socket did not take */
    size_t rest_size, rest_room, out_size, out_room;
    bool is_due_out, awaits_room; /* it has something to send; epoll tells when the socket takes it */
    uint64_t head, event_seq; /* the room's newest event at the entry; the newest that came */
    int64_t started_ns;
    void *tls;
} Member;

typedef struct {
    uint64_t counts[57 * 128], count;
    int64_t max_ns;
} Histogram;

typedef struct {
    long doubled, reordered, changed, stray, garbage, dropped, refused; /* deliveries and members: each one is wrong */
    long event_gaps, wrong_acks, overrun;
    long deliveries, frames, acks, old, unstamped, early, stalls; /* not wrong */
    uint64_t said, bytes, delivery_bytes; /* bytes: all that came; those of the frames that brought a text */
} Counts;

extern Counts counts;

typedef struct {
    const char *host, *path, *room, *subprotocol;
    int port, rooms, receive_bytes; /* 0: as the kernel has it */
    bool wants_stamps, uses_tls;
} Wire;

typedef enum { INFLIGHT, RATE, INBOUND, JOIN, IDLE, STALL, MODES } Mode;

typedef struct {
    Wire wire;
    Mode mode;
    bool is_chatroom, has_bystander;
    int members, senders, inflight, text_bytes, at_once, server_pid; /* members, senders: of each room */
    unsigned run;
    double rate, seconds, warmup_s, settle_s, drain_s, say_bytes;
} Options;

/* swarm_options.c */
extern Options options;
extern const char *const mode_names[MODES];
void parse_options(int count, char **arguments);

/* swarm.c */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
void *grown(void *old, size_t size);
int64_t now_ns(void);
void on_greeted(Member *member);
void on_text(Member *member, const uint8_t *payload, size_t size, size_t frame_bytes, int64_t stamp_ns);
void on_pong(const uint8_t *payload, size_t size, int64_t stamp_ns);
void on_gone(const Member *member, const char *why);
void on_heard_by_all(void);

/* swarm_wire.c */
void open_wire(const Wire *wire);
void compare_clocks(void);
void begin_to_enter(Member *member, int number);
void await_frames(int64_t until_ns, const void *unblocked);
void put_frame(Member *member, uint8_t opcode, const void *payload, size_t size);
void flush(Member *member);
void look_away(Member *member);

/* swarm_tls.c */
void begin_tls(Member *member);
bool is_secured(const Member *member);
ssize_t decrypted(Member *member, const void *cipher, size_t size, void *into, size_t room);
void encrypt(Member *member, const void *plain, size_t size);
size_t take_encrypted(Member *member, void *into, size_t room);

/* swarm_account.c */
enum { TAG_BYTES = 47, CHECK_BYTES = 8, MAX_TEXT_BYTES = 4000, MAX_SENDERS = 256 };

void open_account(int rooms, int members, int senders, int text_bytes, unsigned run);
bool may_say(int room, int sender);
const char *said_text(int room, int sender, int64_t due_ns, bool is_measured, uint32_t *seq);
bool hear(const Member *member, const uint8_t *text, size_t size, int64_t stamp_ns);
long missing(void);
uint32_t hex(const uint8_t *digits, int count);

void record(Histogram *histogram, int64_t ns);
int64_t percentile_ns(const Histogram *histogram, double share);
void print_histogram(const char *name, const Histogram *histogram);

extern Histogram latency, last_member;
