/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "manager/ask.h"

#include <string.h>

#include <apr_general.h>
#include <apr_lib.h>
#include <apr_strings.h>
#include <apr_thread_mutex.h>

#include "acme/http.h"
#include "base/hostname.h"

#define CANARY_BYTES 12         /* of randomness: nobody guesses it, and it fits into a label as hex */
#define PROBES 16               /* places looked at for one answer */

/** An answer that is remembered. */
typedef struct memory_t {
    const manager_ask_endpoint_t *endpoint;     /* NULL: free */
    apr_time_t until;
    manager_ask_answer_t answer;
    char name[BASE_HOSTNAME_SIZE];
    char words[BASE_ERROR_DETAIL_MAX / 2];      /* of TROUBLE */
} memory_t;

/** An endpoint and the connections to it. */
typedef struct line_t {
    const manager_ask_endpoint_t *endpoint;
    acme_http_t *http;
} line_t;

struct manager_ask_t {
    apr_array_header_t *lines;  /* of line_t */
    apr_time_t (*now)(void);
    apr_thread_mutex_t *mutex;  /* guards the memories, nothing else */
    memory_t *memories;         /* MANAGER_ASK_TABLE_MAX, by hash of the name */
};

/* --- URLs --- */

/* A member of the query that we set ourselves. */
static int has_member(const char *query, const char *name)
{
    size_t len = strlen(name);

    for (; query != NULL; query = strchr(query, '&')) {
        query++;                /* behind "?" or "&" */
        if (strncmp(query, name, len) == 0 && query[len] == '=')
            return 1;
    }
    return 0;
}

const char *manager_ask_check_url(const char *url, apr_pool_t *pool)
{
    const char *query;

    if (!acme_http_url_is_endpoint(url))
        return apr_psprintf(pool, "\"%s\" is no URL that can be asked: write http:// or https://, a host, "
                            "and no user and no fragment, for example "
                            "\"http://127.0.0.1:8080/may-have\"", url);
    query = strchr(url, '?');
    if (has_member(query, "domain") || has_member(query, "ip"))
        return apr_psprintf(pool, "\"%s\" has \"domain=\" or \"ip=\" in its query, which are added to it: "
                            "leave them out", url);
    return NULL;
}

/* Names are letters, digits, hyphens and dots, addresses hexadecimal digits, dots and colons: all of them may
 * stand in a query as they are (RFC 3986 section 3.4). */
static const char *make_url(const char *url, const char *name, const char *client, apr_pool_t *pool)
{
    const char *query = strchr(url, '?');
    const char *join = query == NULL ? "?" : query[1] == '\0' ? "" : "&";

    return apr_pstrcat(pool, url, join, "domain=", name, client[0] ? "&ip=" : "", client, NULL);
}

/* --- Memory --- */

static memory_t *place_of(manager_ask_t *ask, const char *name, unsigned int probe)
{
    return &ask->memories[(base_hostname_hash(name) + probe) % MANAGER_ASK_TABLE_MAX];
}

/* With the mutex: what is remembered, or NULL. */
static memory_t *find_memory(manager_ask_t *ask, const manager_ask_endpoint_t *endpoint, const char *name)
{
    for (unsigned int i = 0; i < PROBES; i++) {
        memory_t *memory = place_of(ask, name, i);

        if (memory->endpoint == endpoint && strcmp(memory->name, name) == 0)
            return memory;
    }
    return NULL;
}

/* With the mutex: the place for something new; what ends first goes. */
static memory_t *choose_place(manager_ask_t *ask, const char *name)
{
    memory_t *best = place_of(ask, name, 0);

    for (unsigned int i = 0; i < PROBES; i++) {
        memory_t *memory = place_of(ask, name, i);

        if (memory->endpoint == NULL)
            return memory;
        if (memory->until < best->until)
            best = memory;
    }
    return best;
}

/* @return non-zero when there was an answer that still holds; one from before the clock was set back
 * does not */
static int recall(manager_ask_t *ask, const manager_ask_endpoint_t *endpoint, const char *name,
                  manager_ask_answer_t *answer, apr_time_t *until, apr_time_t now, base_error_t *err)
{
    memory_t *memory;
    int holds;

    apr_thread_mutex_lock(ask->mutex);
    memory = find_memory(ask, endpoint, name);
    holds = memory != NULL && memory->until > now && memory->until <= now + MANAGER_ASK_KEPT_MAX;
    if (holds) {
        *answer = memory->answer;
        *until = memory->until;
        if (*answer == MANAGER_ASK_TROUBLE)
            base_error_set(err, BASE_ERROR_REFUSED, APR_EGENERAL, "%s", memory->words);
    }
    apr_thread_mutex_unlock(ask->mutex);
    return holds;
}

static void remember(manager_ask_t *ask, const manager_ask_endpoint_t *endpoint, const char *name,
                     manager_ask_answer_t answer, apr_time_t until, const base_error_t *err)
{
    memory_t *memory;

    apr_thread_mutex_lock(ask->mutex);
    memory = find_memory(ask, endpoint, name);
    if (memory == NULL)
        memory = choose_place(ask, name);
    memory->endpoint = endpoint;
    memory->answer = answer;
    memory->until = until;
    apr_cpystrn(memory->name, name, sizeof(memory->name));
    apr_cpystrn(memory->words, answer == MANAGER_ASK_TROUBLE ? err->detail : "", sizeof(memory->words));
    apr_thread_mutex_unlock(ask->mutex);
}

/* --- Questions --- */

static acme_http_t *find_line(const manager_ask_t *ask, const manager_ask_endpoint_t *endpoint)
{
    for (int i = 0; i < ask->lines->nelts; i++)
        if (APR_ARRAY_IDX(ask->lines, i, line_t).endpoint == endpoint)
            return APR_ARRAY_IDX(ask->lines, i, line_t).http;
    return NULL;
}

/* One GET. @param response set for YES and NO */
static manager_ask_answer_t question(manager_ask_t *ask, const manager_ask_endpoint_t *endpoint,
                                     const char *name, const char *client, acme_http_response_t **response,
                                     apr_pool_t *pool, base_error_t *err)
{
    acme_http_t *http = find_line(ask, endpoint);
    acme_http_request_t request;

    memset(&request, 0, sizeof(request));
    request.method = "GET";
    request.url = make_url(endpoint->url, name, client, pool);
    request.body_max = MANAGER_ASK_BODY_MAX;
    request.timeout = endpoint->timeout;
    base_error_clear(err);
    if (http == NULL) {
        base_error_set(err, BASE_ERROR_REFUSED, APR_EINVAL, "the endpoint %s is not known", endpoint->url);
        return MANAGER_ASK_TROUBLE;
    }
    if (acme_http_do(http, &request, response, pool, err) != APR_SUCCESS) {
        if (err->kind != BASE_ERROR_CANCELLED)
            err->kind = BASE_ERROR_REFUSED;
        return MANAGER_ASK_TROUBLE;
    }
    return (*response)->status >= 200 && (*response)->status <= 299 ? MANAGER_ASK_YES : MANAGER_ASK_NO;
}

/* Seconds of a max-age (RFC 9111 section 5.2.2.1), quoted or not; -1 when it has none. */
static apr_int64_t read_max_age(const char *directive)
{
    const char *value = directive + strlen("max-age");

    value += strspn(value, " \t");
    if (*value++ != '=')
        return -1;
    value += strspn(value, " \t\"");
    return apr_isdigit(*value) ? apr_atoi64(value) : -1;
}

/* How long an answer is kept. */
static apr_interval_time_t choose_time(const acme_http_response_t *response, manager_ask_answer_t answer,
                                       apr_pool_t *pool)
{
    const char *header = acme_http_header(response, "Cache-Control");
    char *state, *part = header ? apr_strtok(apr_pstrdup(pool, header), ",", &state) : NULL;
    apr_int64_t seconds = -1;

    for (; part != NULL; part = apr_strtok(NULL, ",", &state)) {
        part += strspn(part, " \t");
        if (strncasecmp(part, "no-store", 8) == 0 || strncasecmp(part, "no-cache", 8) == 0)
            return MANAGER_ASK_KEPT_MIN;
        if (strncasecmp(part, "max-age", 7) == 0)
            seconds = read_max_age(part);
    }
    if (seconds < 0)
        return answer == MANAGER_ASK_YES ? MANAGER_ASK_YES_KEPT : MANAGER_ASK_NO_KEPT;
    if (seconds >= apr_time_sec(MANAGER_ASK_KEPT_MAX))
        return MANAGER_ASK_KEPT_MAX;
    return seconds > apr_time_sec(MANAGER_ASK_KEPT_MIN) ? apr_time_from_sec(seconds) : MANAGER_ASK_KEPT_MIN;
}

manager_ask_answer_t manager_ask(manager_ask_t *ask, const manager_ask_endpoint_t *endpoint,
                                 const char *name, const char *client, apr_time_t *until,
                                 apr_pool_t *pool, base_error_t *err)
{
    acme_http_response_t *response = NULL;
    manager_ask_answer_t answer;

    base_error_clear(err);
    if (recall(ask, endpoint, name, &answer, until, ask->now(), err))
        return answer;
    answer = question(ask, endpoint, name, client, &response, pool, err);
    *until = ask->now() + (answer == MANAGER_ASK_TROUBLE ? MANAGER_ASK_TROUBLE_KEPT
                                                       : choose_time(response, answer, pool));
    if (err->kind != BASE_ERROR_CANCELLED)
        remember(ask, endpoint, name, answer, *until, err);
    return answer;
}

manager_ask_answer_t manager_ask_canary(manager_ask_t *ask, const manager_ask_endpoint_t *endpoint,
                                        apr_pool_t *pool, base_error_t *err)
{
    unsigned char bytes[CANARY_BYTES];
    char label[2 * CANARY_BYTES + 1];
    acme_http_response_t *response = NULL;
    apr_status_t rv = apr_generate_random_bytes(bytes, sizeof(bytes));

    if (rv != APR_SUCCESS) {
        base_error_set(err, BASE_ERROR_CANCELLED, rv, "no random bytes");
        return MANAGER_ASK_TROUBLE;
    }
    for (int i = 0; i < CANARY_BYTES; i++)
        apr_snprintf(label + 2 * i, 3, "%02x", bytes[i]);
    return question(ask, endpoint, apr_pstrcat(pool, "canary-", label, ".invalid", NULL), "", &response, pool,
                    err);
}

apr_status_t manager_ask_create(manager_ask_t **out, const apr_array_header_t *endpoints,
                                const base_stop_t *stop, apr_time_t (*now)(void), apr_pool_t *pool)
{
    manager_ask_t *ask = apr_pcalloc(pool, sizeof(*ask));
    apr_status_t rv = apr_thread_mutex_create(&ask->mutex, APR_THREAD_MUTEX_DEFAULT, pool);

    ask->now = now;
    ask->lines = apr_array_make(pool, endpoints->nelts, sizeof(line_t));
    if (endpoints->nelts > 0)
        ask->memories = apr_pcalloc(pool, MANAGER_ASK_TABLE_MAX * sizeof(memory_t));
    for (int i = 0; rv == APR_SUCCESS && i < endpoints->nelts; i++) {
        line_t *line = apr_array_push(ask->lines);
        acme_http_config_t config;

        line->endpoint = APR_ARRAY_IDX(endpoints, i, const manager_ask_endpoint_t *);
        memset(&config, 0, sizeof(config));
        config.user_agent = "mod_autocert";
        config.cafile = line->endpoint->cafile;
        config.unix_path = line->endpoint->unix_path;
        config.endpoint = 1;
        rv = acme_http_create(&line->http, &config, stop, pool);
    }
    *out = ask;
    return rv;
}
