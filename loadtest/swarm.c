/* A swarm of members for one server: it loads a chat room, and checks every delivery at every member.
 *
 * One thread, one epoll set, no allocation for a delivery: where the Python harness ends at half a million deliveries a
 * second this one does several. It owns who speaks when, and what is printed. It speaks `chatroom.v1` (--wire chatroom)
 * and the wire of the rivals, on which a text comes back as it was said (--wire plain); the texts are the same bytes.
 * Invariant: a run in which one delivery is missing, doubled, out of order or changed is not right, and says so.
 *
 *     swarm --port P --mode MODE [--wire chatroom|plain] [--members N] [--rooms 1] [--senders 8] [--rate 20]
 *           [--inflight 64] [--seconds 5] [--warmup 1] [--text-bytes 100] [--bystander] ...
 *
 * inflight   the senders together keep so many messages under way, the next when all members have one
 * rate       so many messages a second, due at times fixed beforehand, in turn in all rooms; latency counts from there
 * inbound    each sender keeps so many messages under way, the next when one is acked: how many are taken a second
 * join       how long until all are in, each with what the room has to tell a newcomer
 * idle       all are in and still, until SIGTERM
 * stall      all but one stop reading, and he speaks until --say-bytes of text are said
 *
 *     cc -O2 -o swarm loadtest/swarm*.c -lm       (the server's own CPU is told, too, with --server-pid)
 *
 * It prints `entered N` when everybody is in and one line of JSON at the end. The exit status is 0, 1 if it could not
 * run, 2 for bad options, 4 if it was too slow itself, 5 if a delivery was wrong. Linux only.
 */

#include "swarm.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { TOO_SLOW = 4, WRONG = 5, PING_NS = 10000000, STALLED_NS = SECOND_NS, IDLE_NS = 100000000, ENTER_S = 300 };
typedef enum { ENTERING, SETTLING, WARMING, MEASURING, DRAINING, OVER } Phase;

/* What is read at the start and at the end of the measured time; where none is, of the entry. */
typedef struct {
    int64_t at_ns;
    long deliveries, acks;
    uint64_t bytes;
    double own_s, server_s;
} Reading;

static volatile sig_atomic_t is_over;
static Phase phase;
static int64_t phase_ns, plan_ns, first_ns, entered_ns, progress_ns, compared_ns, next_ping_ns;
static Member *members, bystander = {.room = -1};
static Reading from, to;
static Histogram lateness, joins, held;
static int started, entered, in_flight;
static unsigned turn;
static long progress; /* deliveries and acks, when last looked at */
static uint64_t pings;
static int64_t said_of_plan, all_of_plan, warm_of_plan;
static uint32_t *acked, *unacked; /* by room and sender */
static Member **due_out;
static int due_out_count;
static char last_words[200];

_Noreturn void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("swarm: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

void *grown(void *old, size_t size)
{
    void *found = realloc(old, size);
    if (!found)
        fail("no memory for %zu bytes", size);
    return found;
}

static int64_t as_ns(double seconds) { return (int64_t)(seconds * SECOND_NS); }
static Member *member_at(int room, int place) { return members + (size_t)room * (size_t)options.members + place; }
static size_t sender_at(int room, int sender) { return (size_t)room * (size_t)options.senders + (size_t)sender; }
static int all_members(void) { return options.wire.rooms * options.members; }
static int expected(void) { return all_members() + options.has_bystander; }

/* Speaking */

static void say(int room, int sender, int64_t due_ns, bool is_measured)
{
    uint32_t seq;
    char frame[MAX_TEXT_BYTES + 128];
    Member *member = member_at(room, sender);
    const char *text = said_text(room, sender, due_ns, is_measured, &seq);
    if (options.is_chatroom) {
        int size = snprintf(frame, sizeof frame,
                            "{\"type\":\"say\",\"client_id\":\"%04x%04x%02x-%08x\",\"text\":\"%.*s\"}",
                            options.run & 0xffff, room & 0xffff, sender & 0xff, seq, options.text_bytes, text);
        put_frame(member, TEXT, frame, (size_t)size);
    } else {
        put_frame(member, TEXT, text, (size_t)options.text_bytes);
    }
    if (!member->is_due_out)
        due_out[due_out_count++] = member;
    member->is_due_out = true;
}

static void flush_all(void)
{
    for (int each = 0; each < due_out_count; each++)
        flush(due_out[each]);
    due_out_count = 0;
}

/* Let the senders in turn fill up what is under way. */
static void keep_in_flight(int64_t at_ns)
{
    int refused = 0;
    while (in_flight < options.inflight && refused < options.senders) {
        int sender = (int)(turn++ % (unsigned)options.senders);
        if (!may_say(0, sender)) {
            refused++;
            continue;
        }
        refused = 0;
        in_flight++;
        say(0, sender, at_ns, phase == MEASURING);
    }
}

/* Let each sender fill up what of his is not acked. */
static void keep_unacked(int64_t at_ns)
{
    for (int sender = 0; sender < options.senders; sender++)
        while (unacked[sender] < (uint32_t)options.inflight && (options.mode == STALL || may_say(0, sender))) {
            unacked[sender]++;
            say(0, sender, at_ns, phase == MEASURING);
        }
}

static int64_t due_ns(int64_t number) { return plan_ns + (int64_t)((double)number / options.rate * SECOND_NS); }

/* Say all that is due; one at a time, so that none waits for another to be made. */
static void say_due(int64_t at_ns)
{
    while (said_of_plan < all_of_plan && due_ns(said_of_plan) <= at_ns) {
        int room = (int)(said_of_plan % options.wire.rooms);
        int sender = (int)(said_of_plan / options.wire.rooms % options.senders);
        bool is_measured = said_of_plan >= warm_of_plan;
        int64_t due = due_ns(said_of_plan++);
        say(room, sender, due, is_measured);
        flush_all();
        at_ns = now_ns();
        if (is_measured)
            record(&lateness, at_ns - due);
    }
}

static void look_for_progress(int64_t at_ns)
{
    if (counts.deliveries + counts.acks != progress)
        progress_ns = at_ns;
    progress = counts.deliveries + counts.acks;
}

/* What was lost would be waited for for ever. */
static void give_up_what_is_lost(int64_t at_ns)
{
    if (at_ns - progress_ns > STALLED_NS) {
        counts.stalls++;
        in_flight = 0;
        memset(unacked, 0, (size_t)options.senders * sizeof *unacked);
        progress_ns = at_ns;
    }
}

static void speak(int64_t at_ns)
{
    if (phase != WARMING && phase != MEASURING)
        return;
    if (options.mode == RATE) {
        say_due(at_ns);
        return;
    }
    if (options.mode != STALL)
        give_up_what_is_lost(at_ns);
    if (options.mode == INFLIGHT)
        keep_in_flight(at_ns);
    else
        keep_unacked(at_ns);
    flush_all();
}

/* Hearing */

static void now_in(Member *member)
{
    member->state = ENTERED;
    entered++;
    record(&joins, now_ns() - member->started_ns);
}

void on_greeted(Member *member)
{
    if (!options.is_chatroom)
        now_in(member);
}

static uint64_t number_at(const uint8_t *at, const uint8_t *end)
{
    uint64_t value = 0;
    for (; at < end && *at >= '0' && *at <= '9'; at++)
        value = value * 10 + (uint64_t)(*at - '0');
    return value;
}

static bool starts(const uint8_t *payload, size_t size, const char *with)
{
    return size >= strlen(with) && !memcmp(payload, with, strlen(with));
}

static void on_welcome(Member *member, const uint8_t *payload, size_t size)
{
    static const char name[] = "\"head\":";
    const uint8_t *at = memmem(payload, size, name, sizeof name - 1);
    member->head = at ? number_at(at + sizeof name - 1, payload + size) : 0;
    if (!member->head)
        now_in(member);
}

static void take_off(uint32_t *count) { *count -= *count > 0; }

/* The client_id of an ack is this sender's next one: run 4, room 4, sender 2, `-`, seq 8. */
static void on_ack(Member *member, const uint8_t *payload, size_t size)
{
    static const char start[] = "{\"type\":\"ack\",\"client_id\":\"";
    bool is_sender = member->room >= 0 && member->place < options.senders;
    size_t at = is_sender ? sender_at(member->room, member->place) : 0;
    if (!is_sender || size < sizeof start + 19 || hex(payload + sizeof start - 1 + 11, 8) != acked[at] + 1) {
        counts.wrong_acks++;
        return;
    }
    acked[at]++;
    counts.acks++;
    take_off(&unacked[at]);
}

/* An event has the seq behind the one before. */
static void on_event(Member *member, uint64_t seq)
{
    counts.event_gaps += member->event_seq ? seq != member->event_seq + 1 : seq > member->head + 1;
    member->event_seq = seq;
}

static void on_message(Member *member, const uint8_t *payload, size_t size, size_t frame_bytes, int64_t stamp_ns)
{
    const uint8_t *text = memchr(payload, '~', size), *end = payload + size;
    if (!text || member->room < 0) {
        counts.stray += member->state == ENTERED;
        return;
    }
    if (!hear(member, text, (size_t)(end - text), stamp_ns))
        return;
    const uint8_t *behind = text + options.text_bytes;
    counts.delivery_bytes += frame_bytes;
    counts.changed += options.is_chatroom ? behind == end || *behind != '"' : text != payload || behind != end;
    if (!options.is_chatroom && hex(text + 9, 2) == (uint32_t)member->place)
        take_off(&unacked[sender_at(member->room, member->place)]); /* who hears himself there knows that he is heard */
}

/* A frame of the chat room that brings no message. */
static void on_notice(Member *member, const uint8_t *payload, size_t size)
{
    if (starts(payload, size, "{\"type\":\"ack\"")) {
        on_ack(member, payload, size);
    } else if (starts(payload, size, "{\"type\":\"welcome\"")) {
        on_welcome(member, payload, size);
    } else if (starts(payload, size, "{\"type\":\"error\"")) {
        counts.refused++;
        snprintf(last_words, sizeof last_words, "%.*s", (int)size, (const char *)payload);
    }
}

void on_text(Member *member, const uint8_t *payload, size_t size, size_t frame_bytes, int64_t stamp_ns)
{
    static const char message[] = "{\"type\":\"message\",\"seq\":";
    if (options.is_chatroom && !starts(payload, size, message)) {
        on_notice(member, payload, size);
        return;
    }
    if (options.is_chatroom)
        on_event(member, number_at(payload + sizeof message - 1, payload + size));
    on_message(member, payload, size, frame_bytes, stamp_ns);
    if (member->state == GREETED && member->event_seq >= member->head)
        now_in(member); /* the newest event at the entry ends what a newcomer is told */
}

void on_heard_by_all(void) { in_flight -= in_flight > 0; }

void on_pong(const uint8_t *payload, size_t size, int64_t stamp_ns)
{
    int64_t sent_ns;
    if (size != sizeof sent_ns)
        return;
    memcpy(&sent_ns, payload, sizeof sent_ns);
    record(&held, stamp_ns - sent_ns);
}

void on_gone(const Member *member, const char *why)
{
    counts.dropped += options.mode != STALL || member->place == 0;
    snprintf(last_words, sizeof last_words, "%s", why);
    if (phase == ENTERING)
        fail("a member could not enter: %s", why);
    if (options.mode == STALL && member->place == 0 && phase != OVER)
        fail("the one who speaks was cut off: %s", why); /* nothing more would happen */
}

/* The run */

static double server_s(void)
{
    char path[64], line[1024];
    unsigned long user = 0, kernel = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", options.server_pid);
    FILE *file = options.server_pid ? fopen(path, "r") : NULL;
    if (!file)
        return 0;
    const char *behind = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
    fclose(file);
    if (behind)
        sscanf(behind + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &kernel);
    return (double)(user + kernel) / (double)sysconf(_SC_CLK_TCK);
}

static void read_all(Reading *reading, int64_t at_ns)
{
    struct rusage own;
    getrusage(RUSAGE_SELF, &own);
    reading->at_ns = at_ns;
    reading->deliveries = counts.deliveries;
    reading->acks = counts.acks;
    reading->bytes = counts.bytes;
    reading->own_s = (double)(own.ru_utime.tv_sec + own.ru_stime.tv_sec) +
                     (double)(own.ru_utime.tv_usec + own.ru_stime.tv_usec) / 1e6;
    reading->server_s = server_s();
}

/* Start as many handshakes as may be under way at once. */
static void let_in(int64_t at_ns)
{
    if (!started) {
        first_ns = at_ns;
        read_all(&from, at_ns);
    }
    for (; started < all_members() && started - entered < options.at_once; started++) {
        Member *member = &members[started];
        member->room = started / options.members;
        member->place = started % options.members;
        begin_to_enter(member, started);
    }
    if (options.has_bystander && started == all_members() && bystander.state == ABSENT)
        begin_to_enter(&bystander, started);
    if (at_ns - first_ns > (int64_t)ENTER_S * SECOND_NS)
        fail("%d of %d came in within %d s", entered, expected(), ENTER_S);
}

static void all_are_in(int64_t at_ns)
{
    entered_ns = at_ns;
    read_all(&to, at_ns);
    printf("entered %d\n", entered);
    fflush(stdout);
}

static void turn_away_all_but_one(void)
{
    for (int each = 1; each < all_members(); each++)
        look_away(&members[each]);
}

static bool is_said(int64_t at_ns)
{
    if (options.mode == STALL && options.say_bytes > 0)
        return (double)counts.said * options.text_bytes >= options.say_bytes;
    return at_ns >= plan_ns + as_ns(options.warmup_s + options.seconds) && said_of_plan == all_of_plan;
}

static bool is_drained(void)
{
    return options.mode == STALL || (missing() <= 0 && held.count == pings);
}

/* Whether this phase is over. */
static bool is_through(int64_t at_ns)
{
    switch (phase) {
    case ENTERING: return entered == expected();
    case SETTLING: return options.mode != IDLE && at_ns >= phase_ns + as_ns(options.settle_s);
    case WARMING: return options.mode == STALL || at_ns >= plan_ns + as_ns(options.warmup_s);
    case MEASURING: return is_said(at_ns);
    case DRAINING: return is_drained() || at_ns >= progress_ns + as_ns(options.drain_s);
    default: return false;
    }
}

static void begin(Phase next, int64_t at_ns)
{
    phase = next;
    phase_ns = at_ns;
    if (phase == SETTLING)
        all_are_in(at_ns);
    else if (phase == WARMING)
        plan_ns = at_ns;
    else if (phase == MEASURING)
        read_all(&from, at_ns);
    else if (phase == DRAINING)
        read_all(&to, at_ns);
    if (phase == WARMING || phase == DRAINING)
        progress_ns = at_ns;
    if (phase == WARMING && options.mode == STALL)
        turn_away_all_but_one();
    if (phase == OVER || (phase == SETTLING && options.mode == JOIN))
        is_over = 1;
}

static void ping_aside(int64_t at_ns)
{
    if (!options.has_bystander || phase != MEASURING || at_ns < next_ping_ns || bystander.state != ENTERED)
        return;
    next_ping_ns = at_ns + PING_NS;
    pings++;
    put_frame(&bystander, PING, &at_ns, sizeof at_ns);
    flush(&bystander);
}

static int64_t next_look_ns(int64_t at_ns)
{
    int64_t next_ns = at_ns + (options.mode == IDLE ? IDLE_NS : SECOND_NS / 1000);
    if ((phase == WARMING || phase == MEASURING) && said_of_plan < all_of_plan && due_ns(said_of_plan) < next_ns)
        next_ns = due_ns(said_of_plan);
    return next_ns;
}

static void run(const sigset_t *unblocked)
{
    while (!is_over) {
        int64_t at_ns = now_ns();
        if (at_ns - compared_ns > SECOND_NS) {
            compare_clocks();
            compared_ns = at_ns;
        }
        if (is_through(at_ns))
            begin(phase + 1, at_ns);
        if (phase == ENTERING)
            let_in(at_ns);
        look_for_progress(at_ns);
        speak(at_ns);
        ping_aside(at_ns);
        if (!is_over)
            await_frames(next_look_ns(at_ns), unblocked);
    }
}

/* What is printed */

static bool is_right(void)
{
    bool is_complete = options.mode == STALL || missing() == 0;
    return is_complete && !counts.doubled && !counts.reordered && !counts.changed && !counts.stray && !counts.garbage &&
           !counts.dropped && !counts.refused && !counts.event_gaps && !counts.wrong_acks &&
           held.count == pings;
}

/* Whether it kept its own plan: neither late, which is in every latency, nor with more under way than planned. */
static bool is_valid(void)
{
    int64_t late_ns = percentile_ns(&lateness, 0.99);
    bool is_late = late_ns > 5000000 && late_ns > percentile_ns(&latency, 0.99) / 10;
    bool is_complete = phase == OVER || options.mode == JOIN || options.mode == IDLE;
    return is_complete && !is_late && !counts.overrun && !counts.stalls;
}

static void print_counts(void)
{
    const struct {
        const char *name;
        long count;
    } all[] = {
        {"said", (long)counts.said},
        {"deliveries", counts.deliveries},
        {"acks", counts.acks},
        {"missing", options.mode == STALL ? 0 : missing()},
        {"doubled", counts.doubled},
        {"reordered", counts.reordered},
        {"changed", counts.changed},
        {"stray", counts.stray},
        {"garbage", counts.garbage},
        {"dropped", counts.dropped},
        {"refused", counts.refused},
        {"unanswered", (long)(pings - held.count)},
        {"event_gaps", counts.event_gaps},
        {"wrong_acks", counts.wrong_acks},
        {"overrun", counts.overrun},
        {"old", counts.old},
        {"unstamped", counts.unstamped},
        {"early", counts.early},
        {"stalls", counts.stalls},
        {"frames", counts.frames},
        {"bytes", (long)counts.bytes},
    };
    for (size_t each = 0; each < sizeof all / sizeof *all; each++)
        printf(", \"%s\": %ld", all[each].name, all[each].count);
}

static void print_shares(double seconds)
{
    printf(", \"measured_s\": %.6f, \"deliveries_per_s\": %.1f, \"acks_per_s\": %.1f, \"bytes_per_s\": %.0f", seconds,
           (double)(to.deliveries - from.deliveries) / seconds, (double)(to.acks - from.acks) / seconds,
           (double)(to.bytes - from.bytes) / seconds);
    printf(", \"own_cpu\": %.4f, \"server_cpu\": %.4f", (to.own_s - from.own_s) / seconds,
           (to.server_s - from.server_s) / seconds);
}

static void print_result(void)
{
    printf("{\"mode\": \"%s\", \"right\": %s, \"valid\": %s, \"rooms\": %d, \"members\": %d, \"senders\": %d, "
           "\"text_bytes\": %d, \"entered\": %d, \"enter_s\": %.6f",
           mode_names[options.mode], is_right() ? "true" : "false", is_valid() ? "true" : "false", options.wire.rooms,
           options.members, options.senders, options.text_bytes, entered, (double)(entered_ns - first_ns) / SECOND_NS);
    print_counts();
    if (to.at_ns > from.at_ns)
        print_shares((double)(to.at_ns - from.at_ns) / SECOND_NS);
    if (counts.deliveries)
        printf(", \"overhead_bytes\": %.3f",
               (double)counts.delivery_bytes / (double)counts.deliveries - options.text_bytes);
    if (options.mode == RATE) { /* the others wait for the server: what they would time is not how late it is */
        print_histogram("latency_ms", &latency);
        print_histogram("last_member_ms", &last_member);
    }
    print_histogram("lateness_ms", &lateness);
    print_histogram("join_ms", &joins);
    print_histogram("held_ms", &held);
    puts("}");
    if (*last_words)
        fprintf(stderr, "swarm: %s\n", last_words);
}

/* The program */

static void prepare(void)
{
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    struct rlimit wished = {(rlim_t)expected() + 64, files.rlim_max};
    if (wished.rlim_cur > wished.rlim_max)
        wished.rlim_max = wished.rlim_cur; /* root may */
    if (files.rlim_cur < wished.rlim_cur && setrlimit(RLIMIT_NOFILE, &wished))
        fail("%d open sockets are not allowed: %s", expected(), strerror(errno));
    size_t senders = (size_t)options.wire.rooms * (size_t)options.senders;
    members = calloc((size_t)all_members(), sizeof *members);
    acked = calloc(senders, sizeof *acked);
    unacked = calloc(senders, sizeof *unacked);
    due_out = calloc(senders, sizeof(Member *));
    if (!members || !acked || !unacked || !due_out)
        fail("no memory for %d members", all_members());
    if (options.mode == RATE) {
        warm_of_plan = (int64_t)(options.rate * options.warmup_s);
        all_of_plan = (int64_t)(options.rate * (options.warmup_s + options.seconds) + 0.5);
    }
    if (!options.run)
        options.run = (unsigned)(now_ns() / 1000 ^ getpid()) & 0xffff;
    options.wire.subprotocol = options.is_chatroom ? "chatroom.v1" : "";
    options.wire.wants_stamps = options.mode == RATE || options.has_bystander;
    open_account(options.wire.rooms, options.members, options.senders, options.text_bytes, options.run);
    open_wire(&options.wire);
}

static void on_signal(int number)
{
    (void)number;
    is_over = 1;
}

/* They come while epoll waits, and only then: none is overlooked. */
static void listen_for_signals(sigset_t *unblocked)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t ending;
    sigemptyset(&ending);
    sigaddset(&ending, SIGTERM);
    sigaddset(&ending, SIGINT);
    sigprocmask(SIG_BLOCK, &ending, unblocked);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
}

int main(int count, char **arguments)
{
    sigset_t unblocked;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody is left who wants to know */
    prctl(PR_SET_TIMERSLACK, 1);
    parse_options(count, arguments);
    listen_for_signals(&unblocked);
    prepare();
    run(&unblocked);
    print_result();
    return !is_right() ? WRONG : !is_valid() ? TOO_SLOW : 0;
}
