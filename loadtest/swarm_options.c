/* The command line of the swarm: what each option is without a word, and what cannot be.
 *
 * Owns `options`, which nobody changes once the run begins.
 */

#include "swarm.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const mode_names[MODES] = {"inflight", "rate", "inbound", "join", "idle", "stall"};

Options options = {
    .wire = {.host = "127.0.0.1", .path = "/ws", .room = "swarm", .subprotocol = "", .rooms = 1},
    .mode = MODES,
    .members = 100,
    .senders = 8,
    .inflight = 64,
    .text_bytes = 100,
    .at_once = 128,
    .rate = 20,
    .seconds = 5,
    .warmup_s = 1,
    .settle_s = 0.3,
    .drain_s = 5, /* without a delivery, after which what is missing is lost */
};

static Mode mode_named(const char *name)
{
    int mode = 0;
    while (mode < MODES && strcmp(name, mode_names[mode]))
        mode++;
    return (Mode)mode;
}

static void bad_option(const char *sentence)
{
    fprintf(stderr, "swarm: %s\n", sentence);
    exit(2);
}

static void check_options(void)
{
    if (options.mode == MODES || options.wire.port < 1 || options.wire.port > 65535)
        bad_option("--mode is one of inflight, rate, inbound, join, idle and stall, and --port is needed.");
    if (options.members < 1 || options.wire.rooms < 1 || options.wire.rooms > 0xffff || options.at_once < 1)
        bad_option("--members, --rooms (up to 65535) and --at-once are at least 1.");
    if (options.text_bytes < TAG_BYTES + CHECK_BYTES || options.text_bytes > MAX_TEXT_BYTES)
        bad_option("--text-bytes is 55 to 4000.");
    if (options.mode == INBOUND)
        options.senders = options.members;
    if (options.mode == STALL)
        options.senders = 1;
    if (options.senders > options.members)
        options.senders = options.members;
    if (options.senders < 1 || options.senders > MAX_SENDERS || options.rate <= 0 || options.inflight < 1)
        bad_option("--senders is 1 to 256; --rate and --inflight are above 0.");
    if (options.wire.rooms > 1 && options.mode != RATE && options.mode != IDLE && options.mode != JOIN)
        bad_option("--rooms goes with the modes rate, join and idle.");
}

void parse_options(int count, char **arguments)
{
    enum { FLAG = 256, PORT, HOST, PATH, ROOM, ROOMS, MODE, WIRE, MEMBERS, SENDERS, RATE_, INFLIGHT_, SECONDS, WARMUP,
           SETTLE, DRAIN, TEXT_BYTES, AT_ONCE, BYSTANDER, SERVER_PID, SAY_BYTES, RECEIVE_BYTES, TLS, RUN };
    static const struct option known[] = {
        {"port", 1, NULL, PORT},           {"host", 1, NULL, HOST},           {"path", 1, NULL, PATH},
        {"room", 1, NULL, ROOM},           {"rooms", 1, NULL, ROOMS},         {"mode", 1, NULL, MODE},
        {"wire", 1, NULL, WIRE},           {"members", 1, NULL, MEMBERS},     {"senders", 1, NULL, SENDERS},
        {"rate", 1, NULL, RATE_},          {"inflight", 1, NULL, INFLIGHT_},  {"seconds", 1, NULL, SECONDS},
        {"warmup", 1, NULL, WARMUP},       {"settle", 1, NULL, SETTLE},       {"drain", 1, NULL, DRAIN},
        {"text-bytes", 1, NULL, TEXT_BYTES}, {"at-once", 1, NULL, AT_ONCE},   {"bystander", 0, NULL, BYSTANDER},
        {"server-pid", 1, NULL, SERVER_PID}, {"say-bytes", 1, NULL, SAY_BYTES},
        {"receive-bytes", 1, NULL, RECEIVE_BYTES}, {"tls", 0, NULL, TLS},     {"run", 1, NULL, RUN},
        {NULL, 0, NULL, 0},
    };
    for (int found; (found = getopt_long(count, arguments, "", known, NULL)) != -1;) {
        switch (found) {
        case PORT: options.wire.port = atoi(optarg); break;
        case HOST: options.wire.host = optarg; break;
        case PATH: options.wire.path = optarg; break;
        case ROOM: options.wire.room = optarg; break;
        case ROOMS: options.wire.rooms = atoi(optarg); break;
        case MODE: options.mode = mode_named(optarg); break;
        case WIRE: options.is_chatroom = !strcmp(optarg, "chatroom"); break;
        case MEMBERS: options.members = atoi(optarg); break;
        case SENDERS: options.senders = atoi(optarg); break;
        case RATE_: options.rate = atof(optarg); break;
        case INFLIGHT_: options.inflight = atoi(optarg); break;
        case SECONDS: options.seconds = atof(optarg); break;
        case WARMUP: options.warmup_s = atof(optarg); break;
        case SETTLE: options.settle_s = atof(optarg); break;
        case DRAIN: options.drain_s = atof(optarg); break;
        case TEXT_BYTES: options.text_bytes = atoi(optarg); break;
        case AT_ONCE: options.at_once = atoi(optarg); break;
        case BYSTANDER: options.has_bystander = true; break;
        case SERVER_PID: options.server_pid = atoi(optarg); break;
        case SAY_BYTES: options.say_bytes = atof(optarg); break;
        case RECEIVE_BYTES: options.wire.receive_bytes = atoi(optarg); break;
        case TLS: options.wire.uses_tls = true; break;
        case RUN: options.run = (unsigned)strtoul(optarg, NULL, 0); break;
        default: exit(2);
        }
    }    check_options();
}
