/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "acme/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <apr_allocator.h>
#include <apr_date.h>
#include <apr_strings.h>
#include <apr_thread_mutex.h>
#include <arpa/inet.h>

#include "base/base64url.h"
#include "base/identifier.h"
#include "base/json.h"
#include "base/log.h"
#include "crypto/jws.h"

#ifndef AUTOCERT_VERSION
#define AUTOCERT_VERSION "0.0.0-dev"
#endif

#define ERROR_PREFIX "urn:ietf:params:acme:error:"
#define SUBPROBLEMS_MAX 10              /* that are shown and looked at */
#define ALGORITHMS_MAX 10
#define PROFILE_NAME_MAX 64             /* letters */
#define NETWORK_BITS_IPV4 24            /* larger networks than these are not about one address */
#define NETWORK_BITS_IPV6 48
#define DEFAULT_WAIT apr_time_from_sec(3600)    /* "later" without a moment */

typedef struct nonce_t {
    apr_time_t taken;                   /* when it came */
    char text[ACME_CLIENT_NONCE_MAX + 1];
} nonce_t;

struct acme_client_t {
    const acme_client_config_t *config;
    const base_stop_t *stop;
    apr_time_t (*now)(void);
    acme_http_t *http;
    apr_pool_t *pool;                   /* of its own allocator; used under the mutex only */
    apr_thread_mutex_t *mutex;          /* guards all that follows; never held over the network */
    apr_pool_t *directory_pool;         /* NULL without a directory */
    acme_client_directory_t directory;
    apr_time_t directory_time;
    nonce_t nonces[ACME_CLIENT_NONCES_MAX]; /* oldest first */
    int nonces_count;
    apr_time_t skew_told;               /* when it was said that the clocks differ, 0: never */
};

/* What a request was, as far as its failure depends on it. */
typedef struct context_t {
    acme_client_t *client;
    const char *url;
    int is_read;                        /* POST-as-GET, GET */
    apr_pool_t *pool;
    json_t *problem;                    /* found by explain(), NULL without one */
} context_t;

apr_status_t acme_client_create(acme_client_t **client, const acme_client_config_t *config,
                                const base_stop_t *stop, apr_time_t (*now)(void),
                                apr_pool_t *pool)
{
    acme_client_t *c = apr_pcalloc(pool, sizeof(*c));
    acme_http_config_t http = { 0 };
    apr_allocator_t *allocator;
    apr_status_t st;

    c->config = config;
    c->stop = stop;
    c->now = now;
    st = apr_allocator_create(&allocator);
    if (st == APR_SUCCESS) {
        /* Directories come and go in worker threads, whatever pool ours stands in. */
        st = apr_pool_create_ex(&c->pool, pool, NULL, allocator);
        if (st != APR_SUCCESS) {
            apr_allocator_destroy(allocator);
            return st;
        }
        apr_allocator_owner_set(allocator, c->pool);
        st = apr_thread_mutex_create(&c->mutex, APR_THREAD_MUTEX_DEFAULT, pool);
    }
    if (st != APR_SUCCESS) {
        return st;
    }
    http.user_agent = apr_pstrcat(pool, "mod_autocert/" AUTOCERT_VERSION " libcurl/",
                                  acme_http_library_version(), NULL);
    http.cafile = config->cafile;
    http.proxy = config->proxy;
    *client = c;
    return acme_http_create(&c->http, &http, stop, pool);
}

const acme_client_config_t *acme_client_config(const acme_client_t *client)
{
    return client->config;
}

const base_stop_t *acme_client_stop(const acme_client_t *client)
{
    return client->stop;
}

apr_time_t acme_client_now(const acme_client_t *client)
{
    return client->now();
}

/* ---- moments ---- */

/* Read exactly n digits. @return what follows them, NULL when there are fewer */
static const char *read_digits(const char *s, int n, int *value)
{
    *value = 0;
    while (n-- > 0) {
        if (*s < '0' || *s > '9') {
            return NULL;
        }
        *value = *value * 10 + (*s++ - '0');
    }
    return s;
}

/* Read "Z", " UTC" or "+hh:mm" as seconds east of UTC. @return non-zero when it is one */
static int read_zone(const char *s, int *offset)
{
    int hours, minutes, sign = *s == '-' ? -1 : 1;

    *offset = 0;
    if (*s == 'Z' || *s == 'z' || strncmp(s, " UTC", 4) == 0) {
        return 1;
    }
    if (*s != '+' && *s != '-') {
        return 0;
    }
    s = read_digits(s + 1, 2, &hours);
    if (s == NULL || *s != ':' || read_digits(s + 1, 2, &minutes) == NULL) {
        return 0;
    }
    *offset = sign * (hours * 3600 + minutes * 60);
    return 1;
}

apr_time_t acme_client_time(const char *s)
{
    apr_time_exp_t parts = { 0 };
    /* Digits and what separates them from the next field; '.' stands for "T" or a blank. */
    struct {
        int digits;
        char separator;
        int *value;
    } fields[] = {
        { 4, '-', &parts.tm_year }, { 2, '-', &parts.tm_mon }, { 2, '.', &parts.tm_mday },
        { 2, ':', &parts.tm_hour }, { 2, ':', &parts.tm_min }, { 2, '\0', &parts.tm_sec }
    };
    apr_time_t t;
    int offset;
    size_t i;

    for (i = 0; s != NULL && i < sizeof(fields) / sizeof(fields[0]); i++) {
        s = read_digits(s, fields[i].digits, fields[i].value);
        if (s == NULL || fields[i].separator == '\0') {
            break;
        }
        if (fields[i].separator == '.' ? strchr("Tt ", *s) == NULL || *s == '\0'
                                       : *s != fields[i].separator) {
            return 0;
        }
        s++;
    }
    if (s == NULL) {
        return 0;
    }
    if (*s == '.') {
        s++;
        s += strspn(s, "0123456789");
    }
    if (!read_zone(s, &offset) || parts.tm_year < 1970 || parts.tm_mon < 1 || parts.tm_mon > 12
        || parts.tm_mday < 1 || parts.tm_mday > 31 || parts.tm_hour > 23 || parts.tm_min > 59
        || parts.tm_sec > 60) {
        return 0;
    }
    parts.tm_year -= 1900;
    parts.tm_mon -= 1;
    if (apr_time_exp_get(&t, &parts) != APR_SUCCESS) {
        return 0;
    }
    return t - apr_time_from_sec(offset);
}

/* Let's Encrypt repeats its Retry-After in words: "retry after 2026-01-02 03:04:05 UTC: ..." */
static apr_time_t find_moment(const char *detail)
{
    const char *words = strstr(detail, "retry after ");

    return words != NULL ? acme_client_time(words + strlen("retry after ")) : 0;
}

/* ---- problem documents (RFC 8555 section 6.7, RFC 7807) ---- */

static const char *strip_type(const char *type)
{
    if (type == NULL || strcmp(type, "about:blank") == 0) {
        return "";
    }
    return strncmp(type, ERROR_PREFIX, strlen(ERROR_PREFIX)) == 0
           ? type + strlen(ERROR_PREFIX) : type;
}

/* Append to a buffer of BASE_ERROR_DETAIL_MAX bytes; what does not fit is cut. */
static void append(char *text, const char *before, const char *words, const char *after)
{
    size_t len = strlen(text);

    snprintf(text + len, BASE_ERROR_DETAIL_MAX - len, "%s%s%s", before, words, after);
}

static void append_subproblems(char *text, const json_t *problem)
{
    json_t *list = base_json_array(problem, "subproblems");
    size_t i, n = json_array_size(list);

    for (i = 0; i < n && i < SUBPROBLEMS_MAX; i++) {
        const json_t *sub = json_array_get(list, i);
        const char *name = base_json_string(base_json_object(sub, "identifier"), "value");
        const char *type = strip_type(base_json_string(sub, "type"));
        const char *detail = base_json_string(sub, "detail");

        append(text, i == 0 ? " (" : "; ", name != NULL ? name : type, ": ");
        append(text, "", detail != NULL ? detail : type, "");
    }
    if (n > 0) {
        append(text, "", ")", "");
    }
}

/* Account keys that we can have, by the algorithm they sign with. */
static const struct {
    const char *algorithm;
    const char *key;
} key_kinds[] = {
    { "ES256", "P-256" }, { "ES384", "P-384" }, { "RS256", "RSA" }
};

/* Which algorithms a CA takes that did not take ours, and what to do about it. */
static void append_algorithms(char *text, const json_t *problem)
{
    json_t *list = base_json_array(problem, "algorithms");
    const char *key = NULL;
    size_t i, j, n = json_array_size(list);

    for (i = 0; i < n && i < ALGORITHMS_MAX; i++) {
        const char *word = json_string_value(json_array_get(list, i));

        for (j = 0; word != NULL && key == NULL && j < sizeof(key_kinds) / sizeof(key_kinds[0]); j++) {
            key = strcmp(key_kinds[j].algorithm, word) == 0 ? key_kinds[j].key : NULL;
        }
        append(text, i == 0 ? " (it takes " : ", ", word != NULL ? word : "?", "");
    }
    if (n > 0 && key != NULL) {
        append(text, ": make an account key of the kind ", key,
               " and write \"AutocertCA ... account=FILE\")");
    }
    else if (n > 0) {
        append(text, "", ", none of which this module has", ")");
    }
}

/* Put type and detail of a problem into err, which is set already. */
static void copy_problem(base_error_t *err, const json_t *problem, const char *fallback)
{
    char text[BASE_ERROR_DETAIL_MAX] = "";
    const char *type = strip_type(base_json_string(problem, "type"));
    const char *detail = base_json_string(problem, "detail");
    const char *instance = base_json_string(problem, "instance");

    if (detail == NULL || detail[0] == '\0') {
        detail = type[0] != '\0' ? type : fallback;
    }
    append(text, detail, "", "");
    append_subproblems(text, problem);
    if (instance != NULL && strcmp(type, "userActionRequired") == 0) {
        append(text, " (see ", instance, ")");
    }
    if (strcmp(type, "badSignatureAlgorithm") == 0) {
        append_algorithms(text, problem);
    }
    base_error_copy_text(err->type, sizeof(err->type), type);
    base_error_copy_text(err->detail, sizeof(err->detail), text);
}

void acme_client_problem(base_error_t *err, const json_t *problem, const char *fallback)
{
    base_error_set(err, BASE_ERROR_VALIDATION, APR_EGENERAL, "%s", fallback);
    if (json_is_object(problem)) {
        copy_problem(err, problem, fallback);
    }
}

/* Types that do not mean "a human has to change something". */
static const struct {
    const char *type;
    base_error_kind_t kind;
} kinds[] = {
    { "rateLimited", BASE_ERROR_WAIT },
    { "serverInternal", BASE_ERROR_CA_DOWN },
    { "badNonce", BASE_ERROR_CA_DOWN },     /* every attempt: nothing of ours can mend that */
    { "accountDoesNotExist", BASE_ERROR_GONE }
};

static base_error_kind_t find_kind(const char *type)
{
    size_t i;

    for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strcmp(kinds[i].type, type) == 0) {
            return kinds[i].kind;
        }
    }
    return type[0] != '\0' ? BASE_ERROR_OPERATOR : BASE_ERROR_NONE;
}

/* A "compound" is as hopeful as the most hopeful of its parts. */
static base_error_kind_t find_compound_kind(const json_t *problem)
{
    json_t *list = base_json_array(problem, "subproblems");
    base_error_kind_t kind = BASE_ERROR_OPERATOR;
    size_t i;

    for (i = 0; i < json_array_size(list) && i < SUBPROBLEMS_MAX; i++) {
        const json_t *sub = json_array_get(list, i);
        base_error_kind_t one = find_kind(strip_type(base_json_string(sub, "type")));

        if (one == BASE_ERROR_WAIT || (one == BASE_ERROR_CA_DOWN && kind != BASE_ERROR_WAIT)) {
            kind = one;
        }
    }
    return kind;
}

/* The type decides, the HTTP status where there is none or where it says more. */
static base_error_kind_t choose_kind(const context_t *context, const acme_http_response_t *http,
                                     const json_t *problem)
{
    const char *type = strip_type(base_json_string(problem, "type"));
    base_error_kind_t kind = strcmp(type, "compound") == 0 ? find_compound_kind(problem)
                                                           : find_kind(type);

    if (kind == BASE_ERROR_WAIT || kind == BASE_ERROR_GONE) {
        return kind;
    }
    if (http->status == 429 || (http->status == 503 && acme_http_header(http, "Retry-After"))) {
        return BASE_ERROR_WAIT;
    }
    if (http->status == 404 && (context->is_read || problem != NULL)) {
        return BASE_ERROR_GONE;
    }
    /* Request Timeout, Too Early: nothing is wrong with what was asked. */
    if (http->status == 408 || http->status == 425) {
        return BASE_ERROR_CA_DOWN;
    }
    /* 501 with a type is a "no" for good; with any other 5xx the CA is unwell, whatever it says. */
    if (http->status >= 500 && !(http->status == 501 && kind == BASE_ERROR_OPERATOR)) {
        return BASE_ERROR_CA_DOWN;
    }
    if (kind != BASE_ERROR_NONE) {
        return kind;
    }
    /* Without a problem document it was not the CA that spoke, but something in front of it. */
    return problem != NULL && http->status >= 400 ? BASE_ERROR_OPERATOR : BASE_ERROR_CA_DOWN;
}

/* Let's Encrypt stops an account's names that fail for months until its owner visits a page:
 * a rate limit by type, but waiting does not lift it. */
static int is_paused(const base_error_t *err)
{
    return strstr(err->detail, "temporarily prevented") != NULL
           || strstr(err->detail, "paused") != NULL;
}

static int is_same(const char *a, const char *b)
{
    return a != NULL && strcmp(a, b) == 0;
}

/* Certificates' own URLs begin with that of the directory; that one is unknown is no news of it. */
static int is_below_renewal_info(const acme_client_directory_t *d, const char *url)
{
    return d->renewal_info != NULL && strncmp(d->renewal_info, url, strlen(d->renewal_info)) == 0;
}

/* Drop the directory when one of its own URLs is not there any more. */
static void suspect_directory(acme_client_t *client, const char *url, int has_words)
{
    const acme_client_directory_t *d = &client->directory;

    apr_thread_mutex_lock(client->mutex);
    if (client->directory_pool != NULL
        && (is_same(d->new_nonce, url) || is_same(d->new_account, url) || is_same(d->new_order, url)
            || is_same(d->revoke_cert, url) || is_same(d->key_change, url)
            || (!has_words && is_below_renewal_info(d, url)))) {
        apr_pool_destroy(client->directory_pool);
        client->directory_pool = NULL;
    }
    apr_thread_mutex_unlock(client->mutex);
}

/* Where changed terms are to be agreed to, when only a header says it. */
static void add_terms(const context_t *context, const acme_http_response_t *http, base_error_t *err)
{
    const char *terms;

    if (strcmp(err->type, "userActionRequired") == 0 && strstr(err->detail, "(see ") == NULL
        && (terms = acme_http_link(http, "terms-of-service", context->pool)) != NULL) {
        append(err->detail, " (see ", terms, ")");
    }
}

/* Turn an answer that is no success into an error. */
static apr_status_t explain(context_t *context, const acme_http_response_t *http,
                            base_error_t *err)
{
    json_t *problem = base_json_parse_object(http->body, http->len, context->pool);
    base_error_kind_t kind = choose_kind(context, http, problem);
    apr_time_t now = context->client->now();
    char fallback[BASE_ERROR_DETAIL_MAX];

    context->problem = problem;
    if (http->status == 404 || http->status == 405) {
        suspect_directory(context->client, context->url, problem != NULL && http->status == 404);
    }
    snprintf(fallback, sizeof(fallback), "%.200s answered %d without saying why", context->url,
             http->status);
    base_error_set(err, kind, kind == BASE_ERROR_GONE ? APR_NOTFOUND : APR_EGENERAL, "%s",
                   fallback);
    err->http_status = http->status;
    if (problem != NULL) {
        copy_problem(err, problem, fallback);
        add_terms(context, http, err);
    }
    err->retry_at = acme_http_retry_after(http, now);
    if (kind == BASE_ERROR_WAIT && err->retry_at <= now) {
        err->retry_at = find_moment(err->detail);
        if (err->retry_at == 0 && is_paused(err)) {
            err->kind = BASE_ERROR_OPERATOR;
        }
        else if (err->retry_at <= now) {
            err->retry_at = now + DEFAULT_WAIT;
        }
    }
    return err->status;
}

/* ---- directory ---- */

static apr_array_header_t *copy_profiles(const apr_array_header_t *from, apr_pool_t *pool)
{
    apr_array_header_t *to = NULL;
    int i;

    for (i = 0; from != NULL && i < from->nelts; i++) {
        to = to != NULL ? to : apr_array_make(pool, from->nelts, sizeof(const char *));
        APR_ARRAY_PUSH(to, const char *) = apr_pstrdup(pool, APR_ARRAY_IDX(from, i, const char *));
    }
    return to;
}

static void copy_directory(acme_client_directory_t *to, const acme_client_directory_t *from,
                           apr_pool_t *pool)
{
    to->new_nonce = apr_pstrdup(pool, from->new_nonce);
    to->new_account = apr_pstrdup(pool, from->new_account);
    to->new_order = apr_pstrdup(pool, from->new_order);
    to->revoke_cert = apr_pstrdup(pool, from->revoke_cert);
    to->key_change = apr_pstrdup(pool, from->key_change);
    to->renewal_info = apr_pstrdup(pool, from->renewal_info);
    to->terms_of_service = apr_pstrdup(pool, from->terms_of_service);
    to->profiles = copy_profiles(from->profiles, pool);
    to->external_account_required = from->external_account_required;
}

/* The names of the profiles (draft-ietf-acme-profiles section 3); their descriptions are for people. */
static const apr_array_header_t *read_profiles(const json_t *meta, apr_pool_t *pool)
{
    apr_array_header_t *names = NULL;
    json_t *profiles = base_json_object(meta, "profiles"), *value;
    const char *name;

    json_object_foreach(profiles, name, value) {
        if (name[0] == '\0' || strlen(name) > PROFILE_NAME_MAX) {
            continue;
        }
        names = names != NULL ? names : apr_array_make(pool, 4, sizeof(const char *));
        if (names->nelts < ACME_CLIENT_PROFILES_MAX) {
            APR_ARRAY_PUSH(names, const char *) = name;
        }
    }
    return names;
}

static apr_status_t parse_directory(acme_client_t *client, const acme_http_response_t *http,
                                    acme_client_directory_t *d, apr_pool_t *pool,
                                    base_error_t *err)
{
    json_t *json = base_json_parse_object(http->body, http->len, pool);
    json_t *meta = base_json_object(json, "meta");
    const struct {
        const char *member;
        const char **value;
        int needed;
    } members[] = {
        { "newNonce", &d->new_nonce, 1 }, { "newAccount", &d->new_account, 1 },
        { "newOrder", &d->new_order, 1 }, { "revokeCert", &d->revoke_cert, 0 },
        { "keyChange", &d->key_change, 0 }, { "renewalInfo", &d->renewal_info, 0 }
    };
    size_t i;

    memset(d, 0, sizeof(*d));
    for (i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        const char *url = base_json_string(json, members[i].member);

        *members[i].value = url != NULL ? acme_http_resolve(http, url, pool) : NULL;
        if (*members[i].value == NULL && members[i].needed) {
            return base_error_set(err, BASE_ERROR_CA_DOWN, APR_EGENERAL,
                                  "%.200s is not the directory of an ACME server: %s %s",
                                  client->config->directory_url,
                                  url != NULL ? "not an https URL as" : "there is no",
                                  members[i].member);
        }
    }
    d->terms_of_service = base_json_string(meta, "termsOfService");
    if (d->terms_of_service != NULL && d->terms_of_service[0] == '\0') {
        d->terms_of_service = NULL;
    }
    d->profiles = read_profiles(meta, pool);
    d->external_account_required = base_json_true(meta, "externalAccountRequired");
    return APR_SUCCESS;
}

/* Errors of memory only leave the client without a directory: it is fetched again then. */
static void keep_directory(acme_client_t *client, const acme_client_directory_t *directory)
{
    apr_thread_mutex_lock(client->mutex);
    if (client->directory_pool != NULL) {
        apr_pool_clear(client->directory_pool);
    }
    else if (apr_pool_create(&client->directory_pool, client->pool) != APR_SUCCESS) {
        client->directory_pool = NULL;
    }
    if (client->directory_pool != NULL) {
        copy_directory(&client->directory, directory, client->directory_pool);
        client->directory_time = client->now();
    }
    apr_thread_mutex_unlock(client->mutex);
}

static apr_status_t fetch_directory(acme_client_t *client, acme_client_directory_t *directory,
                                    apr_pool_t *pool, base_error_t *err)
{
    acme_http_request_t request = { 0 };
    acme_http_response_t *http;
    context_t context = { client, client->config->directory_url, 0, pool, NULL };
    apr_status_t st;

    request.method = "GET";
    request.url = client->config->directory_url;
    st = acme_http_do(client->http, &request, &http, pool, err);
    if (st != APR_SUCCESS) {
        return st;
    }
    if (http->status != 200) {
        st = explain(&context, http, err);
        /* Nobody has to change anything at our side because a CA lost its directory. */
        if (err->kind != BASE_ERROR_WAIT) {
            err->kind = BASE_ERROR_CA_DOWN;
        }
        return st;
    }
    st = parse_directory(client, http, directory, pool, err);
    if (st == APR_SUCCESS) {
        keep_directory(client, directory);
        base_log(BASE_LOG_DEBUG, "AC0200", NULL, "%s: read the directory %s",
                 client->config->name, client->config->directory_url);
    }
    return st;
}

apr_status_t acme_client_directory(acme_client_t *client, acme_client_directory_t *directory,
                                   apr_pool_t *pool, base_error_t *err)
{
    base_error_t local;
    apr_time_t age;
    int found = 0;

    apr_thread_mutex_lock(client->mutex);
    age = client->now() - client->directory_time;
    if (client->directory_pool != NULL && age >= 0 && age < ACME_CLIENT_DIRECTORY_AGE) {
        copy_directory(directory, &client->directory, pool);
        found = 1;
    }
    apr_thread_mutex_unlock(client->mutex);
    return found ? APR_SUCCESS : fetch_directory(client, directory, pool, err != NULL ? err : &local);
}

apr_status_t acme_client_check(acme_client_t *client, apr_pool_t *pool, base_error_t *err)
{
    acme_client_directory_t directory;
    apr_status_t st = fetch_directory(client, &directory, pool, err);

    if (st == APR_SUCCESS) {
        base_error_clear(err);
    }
    return st;
}

int acme_client_has_renewal_info(acme_client_t *client)
{
    int has = -1;

    apr_thread_mutex_lock(client->mutex);
    if (client->directory_pool != NULL) {
        has = client->directory.renewal_info != NULL;
    }
    apr_thread_mutex_unlock(client->mutex);
    return has;
}

/* ---- clocks ---- */

static const char *show_duration(char buf[32], apr_interval_time_t duration)
{
    static const struct {
        apr_int64_t seconds;
        const char *unit;
    } units[] = { { 86400, "days" }, { 3600, "hours" }, { 60, "minutes" } };
    apr_int64_t seconds = apr_time_sec(duration);
    size_t i = 0;

    while (seconds < 2 * units[i].seconds && i < sizeof(units) / sizeof(units[0]) - 1) {
        i++;
    }
    snprintf(buf, 32, "%lld %s", (long long)(seconds / units[i].seconds), units[i].unit);
    return buf;
}

/* Compare our clock with the CA's Date, by answers that no cache on the way can have kept. */
static void watch_clock(acme_client_t *client, const acme_http_response_t *http)
{
    const char *date = acme_http_header(http, "Date");
    apr_time_t now = client->now(), theirs = date != NULL ? apr_date_parse_http(date) : APR_DATE_BAD;
    apr_interval_time_t ahead = now - theirs;
    char text[32];
    int tell = 0;

    if (theirs == APR_DATE_BAD || acme_http_header(http, "Age") != NULL
        || (ahead <= ACME_CLIENT_SKEW_MAX && ahead >= -ACME_CLIENT_SKEW_MAX)) {
        return;
    }
    apr_thread_mutex_lock(client->mutex);
    if (client->skew_told == 0 || now < client->skew_told
        || now - client->skew_told >= ACME_CLIENT_SKEW_EVERY) {
        client->skew_told = now;
        tell = 1;
    }
    apr_thread_mutex_unlock(client->mutex);
    if (tell) {
        base_log(BASE_LOG_WARNING, "AC0232", NULL, "%s: the clock of this machine is %s %s that of the CA: "
                 "the dates of certificates may be judged wrongly; set the clock", client->config->name,
                 show_duration(text, ahead > 0 ? ahead : -ahead), ahead > 0 ? "ahead of" : "behind");
    }
}

/* ---- nonces (RFC 8555 section 6.5) ---- */

/* The usable nonce of an answer, or NULL. */
static const char *find_nonce(const acme_http_response_t *http)
{
    const char *nonce = acme_http_header(http, "Replay-Nonce");

    return nonce != NULL && base_base64url_is_text(nonce, 1, ACME_CLIENT_NONCE_MAX) ? nonce : NULL;
}

static void keep_nonce(acme_client_t *client, const char *nonce)
{
    nonce_t *slot;

    apr_thread_mutex_lock(client->mutex);
    if (client->nonces_count == ACME_CLIENT_NONCES_MAX) {
        client->nonces_count--;
        memmove(client->nonces, client->nonces + 1,
                (size_t)client->nonces_count * sizeof(client->nonces[0]));
    }
    slot = &client->nonces[client->nonces_count++];
    slot->taken = client->now();
    apr_cpystrn(slot->text, nonce, sizeof(slot->text));
    apr_thread_mutex_unlock(client->mutex);
}

/* The newest nonce; NULL when there is none young enough. */
static const char *take_nonce(acme_client_t *client, apr_pool_t *pool)
{
    const char *nonce = NULL;

    apr_thread_mutex_lock(client->mutex);
    if (client->nonces_count > 0) {
        nonce_t *slot = &client->nonces[client->nonces_count - 1];
        apr_time_t age = client->now() - slot->taken;

        if (age >= 0 && age < ACME_CLIENT_NONCE_AGE) {
            nonce = apr_pstrdup(pool, slot->text);
            client->nonces_count--;
        }
        else {
            /* The others are older still. */
            client->nonces_count = 0;
        }
    }
    apr_thread_mutex_unlock(client->mutex);
    return nonce;
}

static void drop_nonces(acme_client_t *client)
{
    apr_thread_mutex_lock(client->mutex);
    client->nonces_count = 0;
    apr_thread_mutex_unlock(client->mutex);
}

/* Some CAs know newNonce only by GET, or leave the nonce out of the answer to HEAD. */
static apr_status_t fetch_nonce(acme_client_t *client, const char **nonce, apr_pool_t *pool,
                                base_error_t *err)
{
    static const char *const methods[] = { "HEAD", "GET" };
    acme_client_directory_t directory;
    acme_http_request_t request = { 0 };
    acme_http_response_t *http = NULL;
    context_t context = { client, NULL, 0, pool, NULL };
    apr_status_t st = acme_client_directory(client, &directory, pool, err);
    size_t i;

    if (st != APR_SUCCESS) {
        return st;
    }
    context.url = request.url = directory.new_nonce;
    for (i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        request.method = methods[i];
        st = acme_http_do(client->http, &request, &http, pool, err);
        if (st != APR_SUCCESS) {
            return st;
        }
        watch_clock(client, http);
        *nonce = find_nonce(http);
        if (*nonce != NULL && http->status / 100 == 2) {
            return APR_SUCCESS;
        }
    }
    if (http->status / 100 != 2) {
        st = explain(&context, http, err);
        if (err->kind != BASE_ERROR_WAIT) {
            err->kind = BASE_ERROR_CA_DOWN;
        }
        return st;
    }
    return base_error_set(err, BASE_ERROR_CA_DOWN, APR_EGENERAL,
                          "%.200s answered %d without a usable nonce", request.url, http->status);
}

/* ---- signed requests ---- */

static void fill_answer(acme_client_t *client, const acme_http_response_t *http,
                        acme_client_answer_t *answer, apr_pool_t *pool)
{
    const char *location = acme_http_header(http, "Location");

    answer->http = http;
    answer->json = base_json_parse_object(http->body, http->len, pool);
    answer->location = location != NULL ? acme_http_resolve(http, location, pool) : NULL;
    answer->retry_at = acme_http_retry_after(http, client->now());
}

static apr_status_t send_signed(acme_client_t *client, const acme_client_request_t *request,
                                const char *nonce, const acme_http_response_t **response,
                                apr_pool_t *pool, base_error_t *err)
{
    crypto_jws_header_t header = { nonce, request->url, request->kid };
    acme_http_request_t http = { 0 };
    acme_http_response_t *answer = NULL;
    apr_status_t st = crypto_jws_sign(&http.body, request->key, &header, request->payload, pool,
                                      err);

    if (st == APR_SUCCESS) {
        http.method = "POST";
        http.url = request->url;
        http.accept = request->accept;
        http.body_max = request->body_max;
        http.timeout = request->timeout;
        st = acme_http_do(client->http, &http, &answer, pool, err);
    }
    *response = answer;
    return st;
}

apr_status_t acme_client_post(acme_client_t *client, const acme_client_request_t *request,
                              acme_client_answer_t *answer, apr_pool_t *pool,
                              base_error_t *err)
{
    context_t context = { client, request->url, request->payload[0] == '\0', pool, NULL };
    const acme_http_response_t *http;
    const char *nonce = take_nonce(client, pool), *next;
    base_error_t local;
    apr_status_t st = APR_SUCCESS;
    int i;

    memset(answer, 0, sizeof(*answer));
    err = err != NULL ? err : &local;
    for (i = 0; i <= ACME_CLIENT_NONCE_RETRIES; i++) {
        if (nonce == NULL) {
            st = fetch_nonce(client, &nonce, pool, err);
        }
        if (st == APR_SUCCESS) {
            st = send_signed(client, request, nonce, &http, pool, err);
        }
        if (st != APR_SUCCESS) {
            return st;
        }
        watch_clock(client, http);
        next = find_nonce(http);
        if (http->status / 100 == 2) {
            if (next != NULL) {
                keep_nonce(client, next);
            }
            base_error_clear(err);
            fill_answer(client, http, answer, pool);
            return APR_SUCCESS;
        }
        st = explain(&context, http, err);
        answer->problem = context.problem;
        if (strcmp(err->type, "badNonce") != 0) {
            if (next != NULL) {
                keep_nonce(client, next);
            }
            return st;
        }
        /* All we hold are probably of the same, lost generation. */
        drop_nonces(client);
        nonce = next;
        st = APR_SUCCESS;
    }
    return err->status;
}

apr_status_t acme_client_get(acme_client_t *client, const char *url, acme_client_answer_t *answer,
                             apr_pool_t *pool, base_error_t *err)
{
    context_t context = { client, url, 1, pool, NULL };
    acme_http_request_t request = { 0 };
    acme_http_response_t *http = NULL;
    base_error_t local;
    apr_status_t st;

    memset(answer, 0, sizeof(*answer));
    err = err != NULL ? err : &local;
    request.method = "GET";
    request.url = url;
    st = acme_http_do(client->http, &request, &http, pool, err);
    if (st == APR_SUCCESS && http->status / 100 != 2) {
        st = explain(&context, http, err);
        answer->problem = context.problem;
    }
    else if (st == APR_SUCCESS) {
        base_error_clear(err);
        fill_answer(client, http, answer, pool);
    }
    return st;
}

/* ---- whom a rate limit concerns ---- */

/* Non-zero when the token is the name or a parent domain with at least two labels. */
static int is_name_or_parent(const char *token, size_t len, const char *name)
{
    size_t name_len = strlen(name);

    if (len > 2 && token[0] == '*' && token[1] == '.') {
        token += 2;
        len -= 2;
    }
    while (len > 0 && token[len - 1] == '.') {
        len--;
    }
    return len > 0 && len <= name_len && memchr(token, '.', len) != NULL
           && strncasecmp(name + name_len - len, token, len) == 0
           && (len == name_len || name[name_len - len - 1] == '.');
}

/* Non-zero when the token is the address or a network of it that a limit can be for: "192.0.2.1/32",
 * "2001:db8::/64". The punctuation of the sentence may hang on it. */
static int is_address_or_network(const char *token, size_t len, const char *name)
{
    char text[INET6_ADDRSTRLEN], *end = NULL;
    unsigned char ours[16], theirs[16];
    const char *slash = memchr(token, '/', len);
    size_t address_len = slash != NULL ? (size_t)(slash - token) : len;
    int size = base_identifier_address(name, ours);
    long bits = size * 8, least = size == 4 ? NETWORK_BITS_IPV4 : NETWORK_BITS_IPV6;
    size_t whole;

    if (slash != NULL) {
        bits = strtol(slash + 1, &end, 10);
    }
    for (;; address_len--) {
        if (address_len == 0 || address_len >= sizeof(text)) {
            return 0;
        }
        memcpy(text, token, address_len);
        text[address_len] = '\0';
        if (base_identifier_address(text, theirs) == size) {
            break;
        }
        if (slash != NULL || strchr(".:", token[address_len - 1]) == NULL) {
            return 0;
        }
    }
    if ((slash != NULL && (end == slash + 1 || end > token + len)) || bits < least || bits > size * 8) {
        return 0;
    }
    whole = (size_t)bits / 8;
    return memcmp(ours, theirs, whole) == 0
           && (bits % 8 == 0 || ((ours[whole] ^ theirs[whole]) & (0xff00 >> bits % 8) & 0xff) == 0);
}

/* Non-zero when the text before a token says that the problem is about it: a quote, "for", or its place in
 * a list of subproblems. Names in URLs and of the CA itself stand elsewhere. */
static int is_introduced(const char *text, const char *token)
{
    const char *p = token;

    if (p == text || strchr("\"'(", p[-1]) != NULL) {
        return 1;
    }
    while (p > text && p[-1] == ' ') {
        p--;
    }
    if (p > text && (p[-1] == ';' || p[-1] == ',')) {
        return 1;
    }
    p -= p > text && p[-1] == ':';
    return p < token && p - text >= 3 && strncmp(p - 3, "for", 3) == 0 && (p - text == 3 || p[-4] == ' ');
}

int acme_client_is_about_name(const base_error_t *err, const char *name)
{
    static const char name_letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.*";
    static const char address_letters[] = "abcdefABCDEF0123456789.:/";
    int is_address = base_identifier_kind(name) == BASE_IDENTIFIER_IP;
    const char *letters = is_address ? address_letters : name_letters;
    const char *text = err->detail, *p = text, *base = base_identifier_base(name);

    if (strcmp(err->type, "rateLimited") != 0
        && !(strcmp(err->type, "compound") == 0 && err->kind == BASE_ERROR_WAIT)) {
        return 0;
    }
    if (strstr(text, "exact set of ") != NULL) {
        return 1;
    }
    while (*p != '\0') {
        size_t len = strspn(p, letters);

        if (len > 0 && is_introduced(text, p)
            && (is_address ? is_address_or_network(p, len, name) : is_name_or_parent(p, len, base))) {
            return 1;
        }
        p += len + strcspn(p + len, letters);
    }
    return 0;
}
