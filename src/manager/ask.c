/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "manager/ask.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <apr_thread_mutex.h>

#include "acme/http.h"
#include "base/hostname.h"

#ifndef AUTOCERT_VERSION
#define AUTOCERT_VERSION "0.0.0-dev"
#endif

#define CLIENT_MAX 45                   /* letters of an address: IPv6 with IPv4 at its end */
#define QUERY_MAX (sizeof("&domain=&ip=") + BASE_HOSTNAME_MAX + CLIENT_MAX)     /* added to a URL */
#define CANARY_LETTERS 24
#define CANARY_SUFFIX ".invalid"        /* RFC 6761 section 6.4: nobody's */

typedef struct asked_t {
    const manager_ask_endpoint_t *endpoint;
    acme_http_t *http;
} asked_t;

typedef struct entry_t {
    const asked_t *asked;
    manager_ask_answer_t answer;
    apr_status_t status;                /* of trouble */
    char name[BASE_HOSTNAME_SIZE];
} entry_t;

/* What is looked through lies close together, and what only trouble needs lies apart, so that its
 * pages are never touched without trouble. Entries are replaced, never removed. */
typedef struct memory_t {
    int used;
    apr_uint32_t hash[MANAGER_ASK_TABLE_MAX];
    apr_time_t until[MANAGER_ASK_TABLE_MAX];
    entry_t entry[MANAGER_ASK_TABLE_MAX];
    char words[MANAGER_ASK_TABLE_MAX][BASE_ERROR_DETAIL_MAX];
} memory_t;

struct manager_ask_t {
    apr_time_t (*now)(void);
    asked_t *asked;
    int count;
    apr_thread_mutex_t *mutex;          /* guards the memory, nothing else */
    memory_t *memory;
};

/* What is known after one question. */
typedef struct result_t {
    manager_ask_answer_t answer;
    apr_interval_time_t kept;           /* 0: not to be remembered */
    base_error_t err;                   /* of trouble */
} result_t;

/* ---- checking and making ---- */

/* Non-zero when the query holds the parameter, with a value or without. */
static int has_parameter(const char *url, const char *name)
{
    const char *p = strchr(url, '?');
    size_t len = strlen(name);

    while (p != NULL) {
        p++;
        if (strncmp(p, name, len) == 0 && (p[len] == '\0' || p[len] == '=' || p[len] == '&')) {
            return 1;
        }
        p = strchr(p, '&');
    }
    return 0;
}

/* Non-zero when something and "@" stand before the host. */
static int has_user(const char *url)
{
    const char *authority = strstr(url, "://");

    if (authority == NULL) {
        return 0;
    }
    authority += strlen("://");
    return memchr(authority, '@', strcspn(authority, "/?#")) != NULL;
}

const char *manager_ask_check_url(const char *url, apr_pool_t *pool)
{
    if (has_user(url)) {
        return apr_psprintf(pool, "\"%s\" has a user before its host: write the URL without it; a "
                            "secret for the endpoint may stand in the query", url);
    }
    if (strchr(url, '#') != NULL) {
        return apr_psprintf(pool, "\"%s\" has a fragment, which no server would see: write the URL "
                            "without \"#\" and what follows", url);
    }
    if (has_parameter(url, "domain") || has_parameter(url, "ip")) {
        return apr_psprintf(pool, "\"%s\" has \"domain=\" or \"ip=\" in its query, which are added to "
                            "each question: write the URL without them", url);
    }
    if (strlen(url) > ACME_HTTP_URL_MAX - QUERY_MAX) {
        return apr_psprintf(pool, "the URL \"%.40s...\" is too long: write one of at most %d letters",
                            url, (int)(ACME_HTTP_URL_MAX - QUERY_MAX));
    }
    if (!acme_http_url_is_usable_plain(url)) {
        return apr_psprintf(pool, "\"%s\" is no URL that can be asked: write http://HOST/PATH or "
                            "https://HOST/PATH", url);
    }
    return NULL;
}

static apr_status_t free_memory(void *memory)
{
    free(memory);
    return APR_SUCCESS;
}

static apr_status_t open_endpoint(asked_t *asked, const manager_ask_endpoint_t *endpoint,
                                  const base_stop_t *stop, apr_pool_t *pool)
{
    acme_http_config_t config = { 0 };

    config.user_agent = apr_pstrcat(pool, "mod_autocert/" AUTOCERT_VERSION " libcurl/",
                                    acme_http_library_version(), NULL);
    config.cafile = endpoint->cafile;
    config.plain = 1;
    config.unix_path = endpoint->unix_path;
    config.no_redirects = 1;
    config.no_slow_limit = 1;
    asked->endpoint = endpoint;
    return acme_http_create(&asked->http, &config, stop, pool);
}

apr_status_t manager_ask_create(manager_ask_t **ask, const apr_array_header_t *endpoints,
                                const base_stop_t *stop, apr_time_t (*now)(void), apr_pool_t *pool)
{
    manager_ask_t *a = apr_pcalloc(pool, sizeof(*a));
    apr_status_t st = apr_thread_mutex_create(&a->mutex, APR_THREAD_MUTEX_DEFAULT, pool);

    if (st != APR_SUCCESS) {
        return st;
    }
    a->now = now;
    /* Not from the pool: that would touch every page of a table that may stay empty. */
    a->memory = calloc(1, sizeof(*a->memory));
    if (a->memory == NULL) {
        return APR_ENOMEM;
    }
    apr_pool_cleanup_register(pool, a->memory, free_memory, apr_pool_cleanup_null);
    a->asked = apr_pcalloc(pool, sizeof(asked_t) * ((size_t)endpoints->nelts + 1));
    for (int i = 0; i < endpoints->nelts; i++) {
        st = open_endpoint(&a->asked[a->count++],
                           APR_ARRAY_IDX(endpoints, i, const manager_ask_endpoint_t *), stop, pool);
        if (st != APR_SUCCESS) {
            return st;
        }
    }
    *ask = a;
    return APR_SUCCESS;
}

static const asked_t *find_asked(const manager_ask_t *ask, const manager_ask_endpoint_t *endpoint)
{
    for (int i = 0; i < ask->count; i++) {
        if (ask->asked[i].endpoint == endpoint) {
            return &ask->asked[i];
        }
    }
    return NULL;
}

/* ---- the memory of answers ---- */

/* A clock that was set back must not make an answer hold for longer than any may. */
static int holds(apr_time_t until, apr_time_t now)
{
    return now < until && until - now <= MANAGER_ASK_KEPT_MAX;
}

/* Under the mutex. 16 KB are looked through: some microseconds, whatever strangers choose as names.
 * @return the place or -1 */
static int find_entry(const memory_t *memory, const asked_t *asked, const char *name)
{
    apr_uint32_t hash = base_hostname_hash(name);

    for (int i = 0; i < memory->used; i++) {
        if (memory->hash[i] == hash && memory->entry[i].asked == asked
            && strcmp(memory->entry[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

/* Under the mutex: an entry that does not hold any more, else a new one, else the one that ends first. */
static int choose_place(memory_t *memory, apr_time_t now)
{
    int first = 0;

    for (int i = 0; i < memory->used; i++) {
        if (!holds(memory->until[i], now)) {
            return i;
        }
        if (memory->until[i] < memory->until[first]) {
            first = i;
        }
    }
    return memory->used < MANAGER_ASK_TABLE_MAX ? memory->used++ : first;
}

static void remember(manager_ask_t *ask, const asked_t *asked, const char *name,
                     const result_t *result, apr_time_t now)
{
    memory_t *memory = ask->memory;
    int place;

    apr_thread_mutex_lock(ask->mutex);
    place = find_entry(memory, asked, name);
    if (place < 0) {
        place = choose_place(memory, now);
    }
    memory->hash[place] = base_hostname_hash(name);
    memory->until[place] = now + result->kept;
    memory->entry[place].asked = asked;
    memory->entry[place].answer = result->answer;
    memory->entry[place].status = result->err.status;
    apr_cpystrn(memory->entry[place].name, name, BASE_HOSTNAME_SIZE);
    if (result->answer == MANAGER_ASK_TROUBLE) {
        apr_cpystrn(memory->words[place], result->err.detail, BASE_ERROR_DETAIL_MAX);
    }
    apr_thread_mutex_unlock(ask->mutex);
}

/* @return non-zero when the answer is known and holds */
static int recall(manager_ask_t *ask, const asked_t *asked, const char *name,
                  manager_ask_answer_t *answer, apr_time_t *until, base_error_t *err)
{
    const memory_t *memory = ask->memory;
    char words[BASE_ERROR_DETAIL_MAX] = "";
    apr_status_t status = APR_SUCCESS;
    apr_time_t now = ask->now();
    int place;

    apr_thread_mutex_lock(ask->mutex);
    place = find_entry(memory, asked, name);
    if (place >= 0 && holds(memory->until[place], now)) {
        *answer = memory->entry[place].answer;
        *until = memory->until[place];
        status = memory->entry[place].status;
        if (*answer == MANAGER_ASK_TROUBLE) {
            apr_cpystrn(words, memory->words[place], sizeof(words));
        }
    }
    else {
        place = -1;
    }
    apr_thread_mutex_unlock(ask->mutex);
    if (place >= 0 && *answer == MANAGER_ASK_TROUBLE) {
        base_error_set(err, BASE_ERROR_REFUSED, status, "%s", words);
    }
    return place >= 0;
}

/* ---- how long an answer holds ---- */

typedef struct control_t {
    int ask_again;                      /* no-store, no-cache */
    apr_interval_time_t max_age;        /* -1 without one */
} control_t;

/* Delta seconds (RFC 9111 section 1.2.2). What is none makes the answer stale (section 4.2.1): 0. */
static apr_interval_time_t read_seconds(const char *text, size_t len)
{
    apr_int64_t seconds = 0;

    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return 0;
        }
        seconds = seconds * 10 + (text[i] - '0');
        if (seconds > apr_time_sec(MANAGER_ASK_KEPT_MAX)) {
            seconds = apr_time_sec(MANAGER_ASK_KEPT_MAX);
        }
    }
    return apr_time_from_sec(seconds);
}

static int is_word(const char *text, size_t len, const char *word)
{
    return strlen(word) == len && strncasecmp(text, word, len) == 0;
}

/* Read one directive. @return what follows it: a comma or the end */
static const char *read_directive(const char *name, control_t *control)
{
    size_t name_len = strcspn(name, "=, \t"), len = 0;
    const char *p = name + name_len, *value = p;

    if (*p == '=') {
        value = ++p;
        if (*p == '"') {
            value = ++p;
            while (*p != '\0' && *p != '"') {
                p += p[0] == '\\' && p[1] != '\0' ? 2 : 1;
            }
        }
        else {
            p += strcspn(p, ", \t");
        }
        len = (size_t)(p - value);
    }
    if (is_word(name, name_len, "no-store") || is_word(name, name_len, "no-cache")) {
        control->ask_again = 1;
    }
    /* Of several the first counts (RFC 9111 section 4.2.1). */
    else if (is_word(name, name_len, "max-age") && control->max_age < 0) {
        control->max_age = read_seconds(value, len);
    }
    return p + strcspn(p, ",");
}

/* apr_table_do() goes on while this returns non-zero. */
static int read_control(void *control, const char *name, const char *value)
{
    (void)name;
    value += strspn(value, ", \t");
    while (*value != '\0') {
        value = read_directive(value, control);
        value += strspn(value, ", \t");
    }
    return 1;
}

static apr_interval_time_t read_kept(const acme_http_response_t *response,
                                     apr_interval_time_t without)
{
    control_t control = { 0, -1 };

    apr_table_do(read_control, &control, response->headers, "Cache-Control", NULL);
    if (control.ask_again) {
        return MANAGER_ASK_KEPT_MIN;
    }
    if (control.max_age < 0) {
        return without;
    }
    if (control.max_age < MANAGER_ASK_KEPT_MIN) {
        return MANAGER_ASK_KEPT_MIN;
    }
    return control.max_age;     /* KEPT_MAX at most */
}

/* ---- asking ---- */

/*
 * Nothing has to be percent-encoded: names consist of letters, digits, hyphens and dots, addresses of
 * hexadecimal digits, dots and colons, and a colon stands for itself in a query (RFC 3986
 * section 3.4: pchar). The scope of a link-local address ("%eth0") would have to be, but
 * says nothing outside this machine and is left out; text that is no address is left out as a whole.
 */
static const char *make_url(const char *url, const char *name, const char *client, apr_pool_t *pool)
{
    const char *query = strchr(url, '?');
    const char *joint = query == NULL ? "?" : "&";
    size_t len = strspn(client, "0123456789abcdefABCDEF.:");

    if (query != NULL && (query[1] == '\0' || url[strlen(url) - 1] == '&')) {
        joint = "";
    }
    if (len == 0 || len > CLIENT_MAX || (client[len] != '\0' && client[len] != '%')) {
        return apr_pstrcat(pool, url, joint, "domain=", name, NULL);
    }
    return apr_pstrcat(pool, url, joint, "domain=", name, "&ip=",
                       apr_pstrmemdup(pool, client, len), NULL);
}

/* Ask over the network. */
static void fetch(const asked_t *asked, const char *name, const char *client, result_t *result,
                  apr_pool_t *pool)
{
    acme_http_request_t request = { 0 };
    acme_http_response_t *response = NULL;
    apr_interval_time_t timeout = asked->endpoint->timeout;
    apr_status_t st;
    int yes;

    base_error_clear(&result->err);
    request.method = "GET";
    request.url = make_url(asked->endpoint->url, name, client, pool);
    request.body_max = MANAGER_ASK_BODY_MAX;
    request.timeout = timeout > 0 ? timeout : MANAGER_ASK_TIMEOUT;
    st = acme_http_do(asked->http, &request, &response, pool, &result->err);
    if (st != APR_SUCCESS) {
        result->answer = MANAGER_ASK_TROUBLE;
        result->kept = 0;
        if (result->err.kind != BASE_ERROR_CANCELLED) {
            result->kept = MANAGER_ASK_TROUBLE_KEPT;
            base_error_set(&result->err, BASE_ERROR_REFUSED, st, "%s", result->err.detail);
        }
        return;
    }
    yes = response->status >= 200 && response->status <= 299;
    result->answer = yes ? MANAGER_ASK_YES : MANAGER_ASK_NO;
    result->kept = read_kept(response, yes ? MANAGER_ASK_YES_KEPT : MANAGER_ASK_NO_KEPT);
}

static void hand_over(base_error_t *err, const result_t *result)
{
    if (err != NULL && result->answer == MANAGER_ASK_TROUBLE) {
        *err = result->err;
    }
}

manager_ask_answer_t manager_ask(manager_ask_t *ask, const manager_ask_endpoint_t *endpoint,
                                 const char *name, const char *client, apr_time_t *until,
                                 apr_pool_t *pool, base_error_t *err)
{
    const asked_t *asked = find_asked(ask, endpoint);
    char spelled[BASE_HOSTNAME_SIZE];
    manager_ask_answer_t answer;
    result_t result;
    apr_time_t now;

    *until = ask->now();
    if (asked == NULL || !base_hostname_from_client(spelled, name, strlen(name))) {
        base_error_set(err, BASE_ERROR_REFUSED, APR_EINVAL, "nobody can be asked about this name");
        return MANAGER_ASK_TROUBLE;
    }
    if (recall(ask, asked, spelled, &answer, until, err)) {
        return answer;
    }
    fetch(asked, spelled, client, &result, pool);
    now = ask->now();
    *until = now + result.kept;
    if (result.kept > 0) {
        remember(ask, asked, spelled, &result, now);
    }
    hand_over(err, &result);
    return result.answer;
}

manager_ask_answer_t manager_ask_canary(manager_ask_t *ask, const manager_ask_endpoint_t *endpoint,
                                        apr_pool_t *pool, base_error_t *err)
{
    const asked_t *asked = find_asked(ask, endpoint);
    char name[CANARY_LETTERS + sizeof(CANARY_SUFFIX)] = "";
    unsigned char random[CANARY_LETTERS];
    result_t result;
    apr_status_t st = apr_generate_random_bytes(random, sizeof(random));

    if (asked == NULL || st != APR_SUCCESS) {
        base_error_set(err, BASE_ERROR_REFUSED, st, "no question could be made up");
        return MANAGER_ASK_TROUBLE;
    }
    for (int i = 0; i < CANARY_LETTERS; i++) {
        name[i] = (char)('a' + random[i] % 26);
    }
    apr_cpystrn(name + CANARY_LETTERS, CANARY_SUFFIX, sizeof(CANARY_SUFFIX));
    fetch(asked, name, "", &result, pool);
    hand_over(err, &result);
    return result.answer;
}
