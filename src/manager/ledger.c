/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "manager/ledger.h"

#include <string.h>

#include <apr_strings.h>

#include "base/json.h"

#define VERSION 1
#define KEY_SUFFIX "+state"
#define FAILURES_MAX 1000000        /* the count stops here */
#define SECONDS_MAX (APR_INT64_MAX / APR_USEC_PER_SEC)
#define WAIT_GROWTH 10
#define LIFETIME_DIVISOR 20         /* no wait longer than this part of a lifetime */
#define JITTER_DIVISOR 5            /* 20 % */
#define OPERATOR_PATIENCE 3         /* failures after which only a human helps */

/* How a kind of error is written: words, so that the numbers may change. */
static const char *const kinds[] = {
    [BASE_ERROR_NONE] = "none",
    [BASE_ERROR_LOCAL] = "local",
    [BASE_ERROR_CANCELLED] = "cancelled",
    [BASE_ERROR_BUSY] = "busy",
    [BASE_ERROR_CA_DOWN] = "ca-down",
    [BASE_ERROR_WAIT] = "wait",
    [BASE_ERROR_VALIDATION] = "validation",
    [BASE_ERROR_GONE] = "gone",
    [BASE_ERROR_OPERATOR] = "operator",
    [BASE_ERROR_REFUSED] = "refused"
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static base_error_kind_t find_kind(const char *word)
{
    for (size_t i = 0; word && i < KINDS; i++) {
        if (strcmp(kinds[i], word) == 0) {
            return (base_error_kind_t)i;
        }
    }
    return BASE_ERROR_NONE;
}

static const char *record_of(const char *key, apr_pool_t *pool)
{
    return apr_pstrcat(pool, key, KEY_SUFFIX, NULL);
}

/* An integer member within 0 and max; 0 when it is another. */
static json_int_t bounded_integer(const json_t *obj, const char *key, json_int_t max)
{
    json_int_t value = base_json_integer(obj, key, 0);

    return value >= 0 && value <= max ? value : 0;
}

static apr_time_t moment(const json_t *obj, const char *key)
{
    return apr_time_from_sec(bounded_integer(obj, key, SECONDS_MAX));
}

/* Records are in whole seconds; rounded up, so that "not before" stays true. */
static json_int_t seconds_of(apr_time_t time)
{
    return apr_time_sec(time) + (apr_time_usec(time) > 0);
}

static void copy_member(char *to, size_t size, const json_t *obj, const char *key)
{
    const char *text = base_json_string(obj, key);

    base_error_copy_text(to, size, text ? text : "");
}

static void load_problem(base_error_t *problem, const json_t *obj)
{
    base_error_clear(problem);
    problem->kind = find_kind(base_json_string(obj, "kind"));
    if (problem->kind == BASE_ERROR_NONE) {
        return;
    }
    problem->status = (apr_status_t)bounded_integer(obj, "status", APR_INT32_MAX);
    if (problem->status == APR_SUCCESS) {
        problem->status = APR_EGENERAL;
    }
    problem->http_status = (int)bounded_integer(obj, "http", 999);
    problem->retry_at = moment(obj, "retry");
    copy_member(problem->type, sizeof(problem->type), obj, "type");
    copy_member(problem->detail, sizeof(problem->detail), obj, "detail");
}

void manager_ledger_load(manager_ledger_t *ledger, cache_t *cache, const char *key,
                         apr_pool_t *pool)
{
    json_t *record = NULL;
    char *data = NULL;
    apr_size_t len = 0;

    memset(ledger, 0, sizeof(*ledger));
    if (cache_get(cache, AUTOCERT_CACHE_PRIVATE, record_of(key, pool), &data, &len, pool)
        == APR_SUCCESS) {
        record = base_json_parse_object(data, len, pool);
    }
    if (!record || base_json_integer(record, "v", 0) != VERSION) {
        return;
    }
    ledger->failures = (int)bounded_integer(record, "failures", FAILURES_MAX);
    ledger->next_try = moment(record, "next");
    ledger->test = base_json_true(record, "test");
    load_problem(&ledger->problem, base_json_object(record, "problem"));
    copy_member(ledger->ca, sizeof(ledger->ca), record, "ca");
    copy_member(ledger->challenge, sizeof(ledger->challenge), record, "challenge");
    ledger->visited = moment(record, "visited");
}

apr_status_t manager_ledger_store(const manager_ledger_t *ledger, cache_t *cache,
                                  const char *key, apr_pool_t *pool)
{
    const base_error_t *problem = &ledger->problem;
    json_t *record = json_pack("{s:i, s:i, s:I, s:b, s:s, s:s, s:I}", "v", VERSION,
                               "failures", ledger->failures,
                               "next", seconds_of(ledger->next_try), "test", ledger->test,
                               "ca", ledger->ca, "challenge", ledger->challenge,
                               "visited", seconds_of(ledger->visited));
    const char *text;

    if (record && problem->kind > BASE_ERROR_NONE && (size_t)problem->kind < KINDS) {
        json_t *object = json_pack("{s:s, s:i, s:i, s:I, s:s, s:s}",
                                   "kind", kinds[problem->kind], "status", problem->status,
                                   "http", problem->http_status,
                                   "retry", seconds_of(problem->retry_at),
                                   "type", problem->type, "detail", problem->detail);

        /* A problem that cannot be written (not UTF-8) must not cost the rest. */
        if (object) {
            json_object_set_new(record, "problem", object);
        }
    }
    text = record ? base_json_dump(record, pool) : NULL;
    if (!text) {
        return APR_EGENERAL;
    }
    return cache_put(cache, AUTOCERT_CACHE_PRIVATE, record_of(key, pool), text, strlen(text),
                     pool);
}

/* 1, 10, 100 minutes, then a day; count begins with 1 */
static apr_interval_time_t grow(int count)
{
    apr_interval_time_t wait = MANAGER_LEDGER_WAIT_FIRST;

    while (--count > 0 && wait < MANAGER_LEDGER_WAIT_MAX) {
        wait *= WAIT_GROWTH;
    }
    return wait < MANAGER_LEDGER_WAIT_MAX ? wait : MANAGER_LEDGER_WAIT_MAX;
}

/* Set next_try a jittered wait from now, and no sooner than the CA wants; the jitter comes
 * after the CA's moment too, which it told all names alike. */
static void wait_for(manager_ledger_t *ledger, apr_interval_time_t wait, apr_time_t retry_at,
                     apr_time_t now, apr_uint32_t random)
{
    apr_time_t next = now + wait;

    /* A CA that says "in a year" is mistaken, or no CA. */
    if (retry_at > now + MANAGER_LEDGER_WAIT_MAX) {
        retry_at = now + MANAGER_LEDGER_WAIT_MAX;
    }
    if (next < retry_at) {
        next = retry_at;
    }
    ledger->next_try = next
        + (apr_time_t)(((apr_uint64_t)(wait / JITTER_DIVISOR) * (random >> 8)) >> 24);
}

/* How long a name waits after its failures. */
static apr_interval_time_t wait_after(const manager_ledger_t *ledger, base_error_kind_t kind,
                                      apr_interval_time_t lifetime)
{
    apr_interval_time_t wait = grow(ledger->failures);

    if (kind == BASE_ERROR_OPERATOR && ledger->failures >= OPERATOR_PATIENCE) {
        wait = MANAGER_LEDGER_WAIT_MAX;
    }
    if (lifetime > 0) {
        /* The jitter, a fifth, still has to fit into the part: it leaves five sixths. */
        apr_interval_time_t max = lifetime / LIFETIME_DIVISOR / 6 * 5;

        wait = wait < max ? wait : max;
    }
    return wait > MANAGER_LEDGER_WAIT_MIN ? wait : MANAGER_LEDGER_WAIT_MIN;
}

void manager_ledger_fail(manager_ledger_t *ledger, const base_error_t *err,
                         apr_interval_time_t lifetime, apr_time_t now, apr_uint32_t random)
{
    switch (err->kind) {
    case BASE_ERROR_NONE:
    case BASE_ERROR_CANCELLED:
    case BASE_ERROR_BUSY:
    case BASE_ERROR_CA_DOWN:
    case BASE_ERROR_REFUSED:
        return;
    default:
        break;
    }
    if (ledger->failures < FAILURES_MAX) {
        ledger->failures++;
    }
    ledger->problem = *err;
    wait_for(ledger, wait_after(ledger, err->kind, lifetime), err->retry_at, now, random);
}

void manager_ledger_succeed(manager_ledger_t *ledger, const char *ca, int test,
                            const char *challenge)
{
    ledger->failures = 0;
    ledger->next_try = 0;
    base_error_clear(&ledger->problem);
    ledger->test = test != 0;
    base_error_copy_text(ledger->ca, sizeof(ledger->ca), ca ? ca : "");
    base_error_copy_text(ledger->challenge, sizeof(ledger->challenge),
                         challenge ? challenge : "");
}
