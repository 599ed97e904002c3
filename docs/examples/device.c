/*
 * A whole device in one file: stores what it measures, sends it, carries out commands, and comes back as told.
 *
 *     cc -O2 -o device docs/examples/device.c -lwebsockets
 *     HEIWA_TOKEN=… ./device ws://127.0.0.1:8080/ws [device:dog-1]
 *
 * With a channel it watches that, too, as an app does: then its token needs `location:read`.
 * Needs libwebsockets 4.1 or newer. A real device writes `stored` to flash, so that it survives a restart.
 */

#include <libwebsockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CAPACITY = 1000, IN_FLIGHT = 200, RESULTS = 16, RESULT_BYTES = 256, MESSAGE_BYTES = 32768, EVENT_BYTES = 128, MAX_BACK_OFF_S = 30 };

static const lws_usec_t SILENCE_US = 30 * LWS_US_PER_SEC;       /* an answer that is later than this does not come */
static const lws_usec_t STEADY_US = 10 * LWS_US_PER_SEC;        /* a connection that lasted so long was a success */
static const lws_usec_t MAX_OBEYED_US = 3600 * LWS_US_PER_SEC;  /* a longer wait is somebody's mistake */

struct event {
    unsigned long number;     /* its id is the run and this */
    long long time_ms;
    lws_usec_t sent_us;       /* 0: not on its way */
    lws_usec_t not_before_us; /* a refused event may be sent again then */
};

static struct event stored[CAPACITY]; /* oldest first: everything that is not acknowledged */
static size_t count;
static unsigned long next_number;
static char run[32];

static struct lws_context *context;
static struct lws *connection;
static lws_sorted_usec_list_t measuring, ticking, returning;
static char url[512];
static const char *scheme, *host, *path;
static int port;

static int alive, finished, failures, leaving;
static lws_usec_t opened_us, told_us;
static size_t most; /* events in one message */
static char text[MESSAGE_BYTES];
static size_t text_bytes;
static const char *channel; /* NULL: none is watched */
static int subscribes;
static char results[RESULTS][RESULT_BYTES]; /* of commands, still to be sent; the server has no more under way */
static size_t results_count;

/* What a message of the server says, as far as a device cares. */
static struct {
    char type[16], reason[24], code[24], id[65], name[32];
    int on;
    unsigned long ids[IN_FLIGHT];
    size_t ids_count;
    long long max_events, reconnect_after_ms, retry_after_ms; /* -1: not said */
} said;

static const char *const PATHS[] = {"type", "reason", "code", "ids", "max_events", "reconnect_after_ms", "retry_after_ms",
                                    "id", "name", "args.on"};
enum { TYPE = 1, REASON, CODE, IDS, EVENTS, RECONNECT, RETRY, ID, NAME, ON };

static void connect_to_server(lws_sorted_usec_list_t *sul);

/* Asked before each connection: a real device fetches a new one when the old one was refused. */
static const char *token(void) {
    const char *given = getenv("HEIWA_TOKEN");
    return given ? given : "";
}

/* How long the server asks to wait: 0 where that is no number of a few digits, an hour at most. */
static lws_usec_t asked_us(const char *digits, lws_usec_t unit_us) {
    size_t length = strspn(digits, "0123456789");
    if (!length || digits[length]) return 0;
    if (length > 12) return MAX_OBEYED_US;
    lws_usec_t wait_us = strtoll(digits, NULL, 10) * unit_us;
    return wait_us < MAX_OBEYED_US ? wait_us : MAX_OBEYED_US;
}

static signed char on_json(struct lejp_ctx *json, char reason) {
    json->buf[json->npos] = 0;
    /* What stands in a list counts as one of `ids`, or not at all. */
    if (json->path_match && (json->ipos != 0) != (json->path_match == IDS)) return 0;
    if (reason == LEJPCB_VAL_NUM_INT) {
        long long value = (long long)(asked_us(json->buf, 1000) / 1000);
        if (json->path_match == EVENTS) said.max_events = value;
        if (json->path_match == RECONNECT) said.reconnect_after_ms = value;
        if (json->path_match == RETRY) said.retry_after_ms = value;
    } else if (reason == LEJPCB_VAL_TRUE) {
        if (json->path_match == ON) said.on = 1;
    } else if (reason == LEJPCB_VAL_STR_END) {
        size_t prefix = strlen(run);
        if (json->path_match == TYPE) lws_strncpy(said.type, json->buf, sizeof said.type);
        if (json->path_match == REASON) lws_strncpy(said.reason, json->buf, sizeof said.reason);
        if (json->path_match == CODE) lws_strncpy(said.code, json->buf, sizeof said.code);
        if (json->path_match == ID) lws_strncpy(said.id, json->buf, sizeof said.id);
        if (json->path_match == NAME) lws_strncpy(said.name, json->buf, sizeof said.name);
        if (json->path_match == IDS && said.ids_count < IN_FLIGHT && !strncmp(json->buf, run, prefix))
            said.ids[said.ids_count++] = strtoul(json->buf + prefix, NULL, 10);
    }
    return 0;
}

/* Never without a wait, and with full jitter: a fleet that lost its server together must not return together. */
static void come_back(const char *why) {
    if (!alive) return;
    alive = 0;
    connection = NULL;
    for (size_t i = 0; i < count; i++) stored[i].sent_us = 0; /* not answered: all of it is sent again */
    lws_usec_t now_us = lws_now_usecs(), wait_us = 100 * LWS_US_PER_MS;
    if (opened_us && now_us - opened_us >= STEADY_US) failures = 0;
    lws_usec_t ceiling_us = (lws_usec_t)(failures < 5 ? 1 << failures : MAX_BACK_OFF_S) * LWS_US_PER_SEC;
    uint32_t chance;
    lws_get_random(context, &chance, sizeof chance);
    wait_us += (lws_usec_t)((double)(ceiling_us - wait_us) * chance / 4294967296.0);
    failures++;
    if (wait_us < told_us) wait_us = told_us;
    printf("ended: %s; back in %lld ms\n", why, (long long)(wait_us / LWS_US_PER_MS));
    lws_sul_schedule(context, 0, &returning, connect_to_server, wait_us);
}

static void give_up(const char *why) {
    struct lws *old = connection;
    come_back(why);
    if (old) lws_set_timeout(old, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
}

/* `ack`: forget it. `nack`: send it again later, with the same id, or never. */
static void answered(void) {
    int again = !strcmp(said.type, "nack") && said.retry_after_ms >= 0;
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        size_t found = 0;
        while (found < said.ids_count && said.ids[found] != stored[i].number) found++;
        if (found < said.ids_count) {
            if (!again) continue;
            stored[i].sent_us = 0;
            stored[i].not_before_us = lws_now_usecs() + said.retry_after_ms * LWS_US_PER_MS;
        }
        stored[kept++] = stored[i];
    }
    count = kept;
    printf("%s %zu %s\n", said.type, said.ids_count, said.code);
}

/* The one result of a command; carried out twice, `switch` does no harm. */
static void carry_out(void) {
    char escaped[2 * sizeof said.id];
    if (results_count == RESULTS) return;
    lws_json_purify(escaped, said.id, sizeof escaped, NULL);
    char *out = results[results_count++];
    size_t size = (size_t)snprintf(out, RESULT_BYTES, "{\"type\":\"result\",\"command\":\"%s\",", escaped);
    if (!strcmp(said.name, "switch"))
        snprintf(out + size, RESULT_BYTES - size, "\"ok\":true,\"value\":{\"on\":%s}}", said.on ? "true" : "false");
    else
        snprintf(out + size, RESULT_BYTES - size, "\"ok\":false,\"error\":{\"code\":\"unknown_command\"}}");
    printf("command %s\n", said.name);
    lws_callback_on_writable(connection);
}

static int understood(void) {
    struct lejp_ctx json;
    memset(&said, 0, sizeof said);
    said.max_events = said.reconnect_after_ms = said.retry_after_ms = -1;
    lejp_construct(&json, on_json, NULL, PATHS, LWS_ARRAY_SIZE(PATHS));
    int rest = lejp_parse(&json, (const unsigned char *)text, (int)text_bytes);
    lejp_destruct(&json);
    if (rest < 0 || !said.type[0]) return 0;
    if (!strcmp(said.type, "welcome")) {
        puts("connected");
        if (said.max_events > 0) most = said.max_events < IN_FLIGHT ? (size_t)said.max_events : IN_FLIGHT;
    } else if (!strcmp(said.type, "ack") || !strcmp(said.type, "nack")) {
        answered();
    } else if (!strcmp(said.type, "goaway")) { /* answers to what is on its way still come; then the server closes */
        leaving = 1;
        if (said.reconnect_after_ms >= 0) told_us = said.reconnect_after_ms * LWS_US_PER_MS;
        if (!strcmp(said.reason, "replaced")) finished = 1;
    } else if (!strcmp(said.type, "command")) {
        carry_out();
    } else if (!strcmp(said.type, "subscribed") || !strcmp(said.type, "event")) {
        printf("%.*s\n", (int)text_bytes, text);
    } else if (!strcmp(said.type, "error")) {
        printf("the server says %s\n", said.code);
    }
    return 1;
}

/* One message: what was asked for comes before what is stored. */
static int send_one(struct lws *wsi) {
    static unsigned char buffer[LWS_PRE + RESULT_BYTES + 512];
    char *out = (char *)buffer + LWS_PRE, escaped[512];
    int size = 0;
    if (subscribes) { /* a snapshot comes with `subscribed`, and then each newer state as `event` */
        subscribes = 0;
        lws_json_purify(escaped, channel, sizeof escaped, NULL);
        size = snprintf(out, sizeof buffer - LWS_PRE, "{\"type\":\"subscribe\",\"channel\":\"%s\"}", escaped);
    } else if (results_count) {
        size = snprintf(out, RESULT_BYTES, "%s", results[--results_count]);
    }
    if (!size) return 0;
    lws_write(wsi, buffer + LWS_PRE, (size_t)size, LWS_WRITE_TEXT);
    lws_callback_on_writable(wsi);
    return 1;
}

/* What is stored, due and not on its way, as far as it fits into one message. */
static int send_events(struct lws *wsi) {
    static unsigned char buffer[LWS_PRE + MESSAGE_BYTES];
    char *out = (char *)buffer + LWS_PRE;
    size_t size = (size_t)sprintf(out, "{\"type\":\"locations\",\"events\":["), events = 0, flying = 0;
    lws_usec_t now_us = lws_now_usecs();
    for (size_t i = 0; i < count; i++) flying += stored[i].sent_us != 0;
    for (size_t i = 0; i < count && events < most && flying + events < IN_FLIGHT; i++) {
        if (stored[i].sent_us || stored[i].not_before_us > now_us || size + EVENT_BYTES > MESSAGE_BYTES) continue;
        size += (size_t)sprintf(out + size, "%s{\"id\":\"%s%lu\",\"time\":%lld,\"lat\":35.0116,\"lon\":135.7681}",
                                events ? "," : "", run, stored[i].number, stored[i].time_ms);
        stored[i].sent_us = now_us;
        events++;
    }
    if (!events) return 0;
    size += (size_t)sprintf(out + size, "]}");
    /* A failure is told by the end of the connection, after all that came before it. */
    lws_write(wsi, buffer + LWS_PRE, size, LWS_WRITE_TEXT);
    return 0;
}

/* One position a second, whether there is a connection or not. */
static void measure(lws_sorted_usec_list_t *sul) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (count == CAPACITY) memmove(stored, stored + 1, --count * sizeof stored[0]);
    stored[count++] = (struct event){next_number++, now.tv_sec * 1000LL + now.tv_nsec / 1000000, 0, 0};
    lws_sul_schedule(context, 0, sul, measure, LWS_US_PER_SEC);
}

static void tick(lws_sorted_usec_list_t *sul) {
    lws_usec_t now_us = lws_now_usecs();
    for (size_t i = 0; alive && i < count; i++)
        if (stored[i].sent_us && now_us - stored[i].sent_us > SILENCE_US) give_up("no answer");
    if (alive && opened_us && !leaving) lws_callback_on_writable(connection);
    lws_sul_schedule(context, 0, sul, tick, 200 * LWS_US_PER_MS);
}

static int on_event(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t bytes) {
    if (wsi != connection && reason != LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER
        && reason != LWS_CALLBACK_CLIENT_CONNECTION_ERROR)
        return lws_callback_http_dummy(wsi, reason, user, in, bytes);
    switch (reason) {
    case LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER: {
        unsigned char **out = in;
        char value[1024];
        int length = snprintf(value, sizeof value, "Bearer %s", token());
        if (length >= (int)sizeof value) return -1;
        return lws_add_http_header_by_token(wsi, WSI_TOKEN_HTTP_AUTHORIZATION, (unsigned char *)value, length, out,
                                            *out + bytes);
    }
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR: { /* refused, or nobody there */
        char value[64] = "";
        if (lws_hdr_copy(wsi, value, sizeof value, WSI_TOKEN_HTTP) > 0) {
            printf("refused with HTTP %.3s\n", value);
            told_us = LWS_US_PER_SEC;
        }
        if (lws_hdr_copy(wsi, value, sizeof value, WSI_TOKEN_HTTP_RETRY_AFTER) > 0
            && asked_us(value, LWS_US_PER_SEC) > told_us)
            told_us = asked_us(value, LWS_US_PER_SEC);
        come_back(in ? (const char *)in : "no connection");
        break;
    }
    case LWS_CALLBACK_CLIENT_ESTABLISHED:
        opened_us = lws_now_usecs();
        subscribes = channel != NULL;
        break;
    case LWS_CALLBACK_CLIENT_RECEIVE: /* a message may come in pieces */
        if (text_bytes + bytes > sizeof text) return -1;
        memcpy(text + text_bytes, in, bytes);
        text_bytes += bytes;
        if (lws_remaining_packet_payload(wsi) || !lws_is_final_fragment(wsi)) break;
        if (!understood()) return -1;
        text_bytes = 0;
        break;
    case LWS_CALLBACK_CLIENT_WRITEABLE:
        if (!alive || send_one(wsi)) return 0;
        return leaving ? 0 : send_events(wsi);
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE: { /* the first two bytes are the code; after goaway it says nothing new */
        int code = bytes >= 2 ? ((unsigned char *)in)[0] << 8 | ((unsigned char *)in)[1] : 0;
        if (code == 1008 || code == 4409) finished = 1; /* by policy; a newer connection of this device took over */
        break;
    }
    case LWS_CALLBACK_CLIENT_CLOSED:
    case LWS_CALLBACK_WSI_DESTROY: /* all that is told of a handshake without an answer */
        come_back("closed");
        break;
    default:
        break;
    }
    return lws_callback_http_dummy(wsi, reason, user, in, bytes);
}

static void connect_to_server(lws_sorted_usec_list_t *sul) {
    /* A ping after 20 s of silence; without an answer the connection ends 20 s later. */
    static const lws_retry_bo_t idle = {.secs_since_valid_ping = 20, .secs_since_valid_hangup = 40};
    struct lws_client_connect_info info = {
        .context = context, .address = host, .port = port, .path = path, .host = host, .protocol = "heiwa.v1.json",
        .retry_and_idle_policy = &idle, .pwsi = &connection,
        /* A redirect is a refusal: to follow it would be a try without a wait. */
        .ssl_connection = LCCSCF_HTTP_NO_FOLLOW_REDIRECT | (strcmp(scheme, "wss") ? 0 : LCCSCF_USE_SSL),
    };
    (void)sul;
    alive = 1;
    opened_us = told_us = 0;
    leaving = 0;
    results_count = 0;
    most = 50; /* one may send before `welcome`, which tells how much at once */
    text_bytes = 0;
    if (!lws_client_connect_via_info(&info)) come_back("no connection");
}

int main(int argc, char **argv) {
    static const struct lws_protocols protocols[] = {{"heiwa.v1.json", on_event, 0, 0, 0, NULL, 0}, {0}};
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN, .protocols = protocols, .timeout_secs = 10,
        .options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT,
    };
    static char full_path[256];
    uint32_t chance;
    setvbuf(stdout, NULL, _IOLBF, 0);
    lws_set_log_level(0, NULL);
    lws_strncpy(url, argc > 1 ? argv[1] : "", sizeof url);
    channel = argc > 2 ? argv[2] : NULL;
    if (lws_parse_uri(url, &scheme, &host, &port, &path)) {
        fputs("usage: device ws://host:port/ws [channel]\n", stderr);
        return 2;
    }
    snprintf(full_path, sizeof full_path, "/%s", path);
    path = full_path;
    if (!(context = lws_create_context(&info))) return 1;
    lws_get_random(context, &chance, sizeof chance);
    snprintf(run, sizeof run, "%llx%08x-", (unsigned long long)time(NULL), chance); /* an id is never used again */
    measure(&measuring);
    tick(&ticking);
    connect_to_server(&returning);
    while (!finished && lws_service(context, 0) >= 0) {
    }
    lws_context_destroy(context);
    return 0;
}
