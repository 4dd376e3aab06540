/* The account of the swarm: every text that was said and is not heard by all, and what each member heard of whom.
 *
 * A text is `~` run 4, room 4, sender 2, seq 8, due_ns 16, late_ns 10, `m` or `w` (warm-up), `~`, 8 digits, filler: the
 * form of the harness' tag, numbers in hex. Whole texts are compared with what was said, so the check sum is zero.
 * Owns the texts and the histograms; knows no socket and no frame. Invariant: a delivery counts once, and only if its
 * bytes are those that were said; what never came so, at any member, is missing.
 */

#include "swarm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS = 1 << 18, MOST_SLOTS = 4096, LEAST_SLOTS = 16, SUB_BUCKETS = 128 };

typedef struct {
    uint32_t seq, left; /* at so many members it has not arrived */
    int64_t due_ns, last_ns;
    bool is_measured;
} Slot;

typedef struct {
    uint32_t last;
    uint64_t seen; /* bit n: seq `last - n` came */
} Window;

static struct {
    int rooms, members, senders, text_bytes, slots;
    unsigned run;
} plan;

Counts counts;
Histogram latency, last_member;

static Slot *slots;
static char *texts;
static uint32_t *said; /* by room and sender: the newest seq */
static Window *windows; /* by room, member and sender */
static uint8_t digit_values[256];

static void *zeroed(size_t count, size_t size)
{
    void *found = calloc(count, size);
    if (!found)
        fail("no memory for %zu times %zu bytes", count, size);
    return found;
}

void open_account(int rooms, int members, int senders, int text_bytes, unsigned run)
{
    size_t all = (size_t)rooms * (size_t)senders;
    plan.rooms = rooms, plan.members = members, plan.senders = senders, plan.text_bytes = text_bytes, plan.run = run;
    for (plan.slots = MOST_SLOTS; plan.slots > LEAST_SLOTS && all * (size_t)plan.slots > SLOTS;)
        plan.slots /= 2;
    slots = zeroed(all * (size_t)plan.slots, sizeof *slots);
    texts = zeroed(all * (size_t)plan.slots, (size_t)text_bytes);
    said = zeroed(all, sizeof *said);
    windows = zeroed(all * (size_t)members, sizeof *windows);
    memset(digit_values, 0xff, sizeof digit_values);
    for (int value = 0; value < 16; value++)
        digit_values[(int)"0123456789abcdef"[value]] = (uint8_t)value;
}

/* Texts */

/* The number in so many digits; UINT32_MAX if one of them is none. */
uint32_t hex(const uint8_t *digits, int count)
{
    uint32_t value = 0;
    for (int at = 0; at < count; at++) {
        if (digit_values[digits[at]] > 15)
            return UINT32_MAX;
        value = value << 4 | digit_values[digits[at]];
    }
    return value;
}

static size_t slot_at(int room, uint32_t sender, uint32_t seq)
{
    return ((size_t)room * (size_t)plan.senders + sender) * (size_t)plan.slots + seq % (uint32_t)plan.slots;
}

static uint32_t *said_by(int room, int sender) { return &said[(size_t)room * (size_t)plan.senders + (size_t)sender]; }

/* Whether all have heard what the next message takes the place of. */
bool may_say(int room, int sender)
{
    return slots[slot_at(room, (uint32_t)sender, *said_by(room, sender) + 1)].left == 0;
}

/* Make the next text of a sender, note it as said and return it. */
const char *said_text(int room, int sender, int64_t due_ns, bool is_measured, uint32_t *seq)
{
    char tag[TAG_BYTES + CHECK_BYTES + 1];
    *seq = ++*said_by(room, sender);
    size_t at = slot_at(room, (uint32_t)sender, *seq);
    int64_t late_ns = now_ns() - due_ns;
    counts.overrun += slots[at].left != 0;
    counts.said++;
    slots[at] = (Slot){.seq = *seq, .left = (uint32_t)plan.members, .due_ns = due_ns, .is_measured = is_measured};
    snprintf(tag, sizeof tag, "~%04x%04x%02x%08x%016llx%010llx%c~%08x", plan.run & 0xffff, room & 0xffff, sender & 0xff,
             *seq, (unsigned long long)due_ns, (unsigned long long)late_ns & 0xffffffffff, is_measured ? 'm' : 'w', 0);
    char *text = texts + at * (size_t)plan.text_bytes;
    memset(text, 'x', (size_t)plan.text_bytes);
    memcpy(text, tag, sizeof tag - 1);
    return text;
}

/* What a text is that nobody said so in this room. */
static void mishear(const Member *member, const uint8_t *text)
{
    if (hex(text + 1, 4) != (plan.run & 0xffff) && member->state != ENTERED)
        counts.old++;
    else if (hex(text + 1, 4) == (plan.run & 0xffff) && hex(text + 5, 4) == (uint32_t)member->room)
        counts.changed++;
    else
        counts.stray++;
}

/* Note that a message came to a member; false if it had come before. */
static bool note(Window *window, uint32_t seq)
{
    if (seq == window->last + 1) {
        window->last = seq;
        window->seen = window->seen << 1 | 1;
        return true;
    }
    if (seq > window->last) {
        uint32_t by = seq - window->last;
        window->seen = (by < 64 ? window->seen << by : 0) | 1;
        window->last = seq;
        return true;
    }
    uint32_t back = window->last - seq;
    if (back >= 64 || window->seen >> back & 1) {
        counts.doubled++;
        return false;
    }
    window->seen |= 1ull << back;
    counts.reordered++;
    return true;
}

static void time_it(const Slot *slot, int64_t stamp_ns)
{
    if (!slot->is_measured)
        return;
    counts.early += stamp_ns < slot->due_ns;
    record(&latency, stamp_ns - slot->due_ns);
}

/* Check what came to a member from the tag on, and count it; false if it is no message of this run. */
bool hear(const Member *member, const uint8_t *text, size_t size, int64_t stamp_ns)
{
    if (size < (size_t)plan.text_bytes) {
        counts.changed++;
        return false;
    }
    uint32_t sender = hex(text + 9, 2), seq = hex(text + 11, 8);
    size_t at = sender < (uint32_t)plan.senders ? slot_at(member->room, sender, seq) : 0;
    Slot *slot = &slots[at];
    if (sender >= (uint32_t)plan.senders || !seq || slot->seq != seq ||
        memcmp(text, texts + at * (size_t)plan.text_bytes, (size_t)plan.text_bytes) != 0) {
        mishear(member, text);
        return false;
    }
    size_t listener = (size_t)member->room * (size_t)plan.members + (size_t)member->place;
    if (!note(&windows[listener * (size_t)plan.senders + sender], seq))
        return true;
    counts.deliveries++;
    time_it(slot, stamp_ns);
    if (stamp_ns > slot->last_ns)
        slot->last_ns = stamp_ns;
    if (--slot->left == 0) {
        if (slot->is_measured)
            record(&last_member, slot->last_ns - slot->due_ns);
        on_heard_by_all();
    }
    return true;
}

long missing(void) { return (long)counts.said * plan.members - counts.deliveries; }

/* Histograms: buckets of under 0.8 % of their value */

void record(Histogram *histogram, int64_t ns)
{
    uint64_t value = ns > 0 ? (uint64_t)ns : 0;
    int shift = value < SUB_BUCKETS ? 0 : 63 - __builtin_clzll(value) - 7;
    size_t bucket = value < SUB_BUCKETS ? value : (size_t)(shift + 1) * SUB_BUCKETS + (value >> shift) - SUB_BUCKETS;
    histogram->counts[bucket]++;
    histogram->count++;
    if (ns > histogram->max_ns)
        histogram->max_ns = ns;
}

static int64_t middle_ns(size_t bucket)
{
    if (bucket < 2 * SUB_BUCKETS)
        return (int64_t)bucket;
    int shift = (int)(bucket / SUB_BUCKETS) - 1;
    return (int64_t)(bucket % SUB_BUCKETS + SUB_BUCKETS) * (1ll << shift) + (1ll << shift) / 2;
}

int64_t percentile_ns(const Histogram *histogram, double share)
{
    uint64_t rank = (uint64_t)ceil(share * (double)histogram->count), seen = 0;
    if (share >= 1)
        return histogram->max_ns;
    for (size_t bucket = 0; bucket < sizeof histogram->counts / sizeof *histogram->counts; bucket++)
        if ((seen += histogram->counts[bucket]) >= rank && rank)
            return middle_ns(bucket) < histogram->max_ns ? middle_ns(bucket) : histogram->max_ns;
    return histogram->max_ns;
}

void print_histogram(const char *name, const Histogram *histogram)
{
    static const struct {
        const char *name;
        double share;
    } shown[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}, {"max", 1}};
    printf(", \"%s\": {\"count\": %llu", name, (unsigned long long)histogram->count);
    for (size_t each = 0; each < sizeof shown / sizeof *shown; each++) {
        if (histogram->count)
            printf(", \"%s\": %.6f", shown[each].name, (double)percentile_ns(histogram, shown[each].share) / 1e6);
        else
            printf(", \"%s\": null", shown[each].name);
    }
    putchar('}');
}
