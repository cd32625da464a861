/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "manager/ledger.h"

#include <string.h>

#include <apr_lib.h>
#include <apr_strings.h>

#include "base/json.h"

#define VERSION 1
#define KEY_SUFFIX "+state"
#define FAILURES_MAX 1000000        /* counts stop here */
#define SECONDS_MAX 253402300799LL  /* the end of the year 9999 */
#define WAIT_GROWTH 10
#define WAIT_STEPS 3                /* waits that grow before the longest */
#define LIFETIME_DIVISOR 20         /* no wait longer than this part of a lifetime */
#define JITTER_DIVISOR 5            /* 20 % */
#define CONFIGURATION_DIGITS 16
#define HASTY_DIVISOR 3             /* of a lifetime: no sane window lies before its third */
#define HASTY_DEFAULT apr_time_from_sec(24 * 3600)

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

/* Hexadecimal digits, since JSON's integers have a sign; 0 when it is anything else. */
static apr_uint64_t load_configuration(const char *text)
{
    apr_uint64_t value = 0;

    if (!text || strlen(text) != CONFIGURATION_DIGITS) {
        return 0;
    }
    for (; *text; text++) {
        if (!apr_isxdigit(*text)) {
            return 0;
        }
        value = value << 4 | (apr_uint64_t)(apr_isdigit(*text) ? *text - '0' : apr_tolower(*text) - 'a' + 10);
    }
    return value;
}

static void load_cas(manager_ledger_t *ledger, const json_t *array)
{
    int n = 0;

    for (size_t i = 0; i < json_array_size(array) && n < MANAGER_CA_MAX; i++) {
        const json_t *obj = json_array_get(array, i);
        manager_ledger_ca_t *ca = &ledger->cas[n];

        copy_member(ca->id, sizeof(ca->id), obj, "id");
        if (ca->id[0] != '\0') {
            ca->failures = (int)bounded_integer(obj, "failures", FAILURES_MAX);
            ca->until = moment(obj, "until");
            n++;
        }
    }
}

static void load_validations(manager_ledger_t *ledger, const json_t *array)
{
    for (size_t i = 0; i < json_array_size(array) && i < MANAGER_LEDGER_VALIDATIONS; i++) {
        json_int_t value = json_integer_value(json_array_get(array, i));

        if (value > 0 && value <= SECONDS_MAX) {
            ledger->failed_validations[i] = apr_time_from_sec(value);
        }
    }
}

static void load_window(manager_ledger_t *ledger, const json_t *obj)
{
    apr_time_t start = moment(obj, "start"), end = moment(obj, "end"), chosen = moment(obj, "chosen");

    if (start > 0 && start <= chosen && chosen <= end) {
        ledger->window_start = start;
        ledger->window_end = end;
        ledger->window_chosen = chosen;
    }
}

static void load_certificate(manager_ledger_t *ledger, const json_t *record)
{
    copy_member(ledger->certificate, sizeof(ledger->certificate), record, "certificate");
    copy_member(ledger->ca, sizeof(ledger->ca), record, "ca");
    copy_member(ledger->account, sizeof(ledger->account), record, "account");
    ledger->test = base_json_true(record, "test");
    ledger->issued = moment(record, "issued");
    ledger->hasty = (int)bounded_integer(record, "hasty", FAILURES_MAX);
    load_window(ledger, base_json_object(record, "window"));
    ledger->info_next = moment(record, "info-next");
    ledger->info_failures = (int)bounded_integer(record, "info-failures", FAILURES_MAX);
    copy_member(ledger->explanation, sizeof(ledger->explanation), record, "explanation");
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
    load_problem(&ledger->problem, base_json_object(record, "problem"));
    copy_member(ledger->problem_ca, sizeof(ledger->problem_ca), record, "problem-ca");
    load_cas(ledger, base_json_array(record, "cas"));
    load_validations(ledger, base_json_array(record, "failed-validations"));
    ledger->configuration = load_configuration(base_json_string(record, "configuration"));
    load_certificate(ledger, record);
    copy_member(ledger->challenge, sizeof(ledger->challenge), record, "challenge");
    ledger->visited = moment(record, "visited");
}

/* --- Writing it --- */

/* What is not there is not written: most records stay short. */
static void put_text(json_t *record, const char *key, const char *text)
{
    if (text[0] != '\0') {
        json_object_set_new(record, key, json_string(text));
    }
}

static void put_count(json_t *record, const char *key, json_int_t count)
{
    if (count > 0) {
        json_object_set_new(record, key, json_integer(count));
    }
}

static void put_moment(json_t *record, const char *key, apr_time_t time)
{
    put_count(record, key, seconds_of(time));
}

static void put_problem(json_t *record, const base_error_t *problem)
{
    if (problem->kind > BASE_ERROR_NONE && (size_t)problem->kind < KINDS) {
        json_t *obj = json_pack("{s:s, s:i, s:i, s:I, s:s, s:s}",
                                "kind", kinds[problem->kind], "status", problem->status,
                                "http", problem->http_status,
                                "retry", seconds_of(problem->retry_at),
                                "type", problem->type, "detail", problem->detail);

        /* A problem that cannot be written (not UTF-8) must not cost the rest. */
        if (obj) {
            json_object_set_new(record, "problem", obj);
        }
    }
}

static void put_cas(json_t *record, const manager_ledger_t *ledger)
{
    json_t *array = json_array();

    for (int i = 0; i < MANAGER_CA_MAX; i++) {
        const manager_ledger_ca_t *ca = &ledger->cas[i];

        if (ca->id[0] != '\0') {
            json_t *obj = json_object();

            put_text(obj, "id", ca->id);
            put_count(obj, "failures", ca->failures);
            put_moment(obj, "until", ca->until);
            json_array_append_new(array, obj);
        }
    }
    if (json_array_size(array) > 0) {
        json_object_set(record, "cas", array);
    }
    json_decref(array);
}

static void put_validations(json_t *record, const manager_ledger_t *ledger)
{
    json_t *array = json_array();

    for (int i = 0; i < MANAGER_LEDGER_VALIDATIONS && ledger->failed_validations[i] > 0; i++) {
        json_array_append_new(array, json_integer(seconds_of(ledger->failed_validations[i])));
    }
    if (json_array_size(array) > 0) {
        json_object_set(record, "failed-validations", array);
    }
    json_decref(array);
}

static void put_certificate(json_t *record, const manager_ledger_t *ledger)
{
    put_text(record, "certificate", ledger->certificate);
    put_text(record, "account", ledger->account);
    put_moment(record, "issued", ledger->issued);
    put_count(record, "hasty", ledger->hasty);
    if (ledger->window_start > 0) {
        json_object_set_new(record, "window",
                            json_pack("{s:I, s:I, s:I}", "start", seconds_of(ledger->window_start),
                                      "end", seconds_of(ledger->window_end),
                                      "chosen", seconds_of(ledger->window_chosen)));
    }
    put_moment(record, "info-next", ledger->info_next);
    put_count(record, "info-failures", ledger->info_failures);
    put_text(record, "explanation", ledger->explanation);
}

apr_status_t manager_ledger_store(const manager_ledger_t *ledger, cache_t *cache,
                                  const char *key, apr_pool_t *pool)
{
    json_t *record = json_pack("{s:i, s:i, s:I, s:b, s:s, s:s, s:I}", "v", VERSION,
                               "failures", ledger->failures,
                               "next", seconds_of(ledger->next_try), "test", ledger->test,
                               "ca", ledger->ca, "challenge", ledger->challenge,
                               "visited", seconds_of(ledger->visited));
    const char *text;

    if (record) {
        put_problem(record, &ledger->problem);
        put_text(record, "problem-ca", ledger->problem_ca);
        put_cas(record, ledger);
        put_validations(record, ledger);
        if (ledger->configuration != 0) {
            put_text(record, "configuration",
                     apr_psprintf(pool, "%016" APR_UINT64_T_HEX_FMT, ledger->configuration));
        }
        put_certificate(record, ledger);
    }
    text = record ? base_json_dump(record, pool) : NULL;
    if (!text) {
        return APR_EGENERAL;
    }
    return cache_put(cache, AUTOCERT_CACHE_PRIVATE, record_of(key, pool), text, strlen(text),
                     pool);
}

/* --- Which CA --- */

static const char *id_of(const apr_array_header_t *cas, int i)
{
    return APR_ARRAY_IDX(cas, i, const manager_ca_config_t *)->acme.id;
}

/* Ids in the ledger are cut; two that begin alike for so long share what is known. */
static int is_id(const char *cut, const char *id)
{
    return cut[0] != '\0' && strncmp(cut, id, MANAGER_LEDGER_ID_MAX - 1) == 0;
}

static const manager_ledger_ca_t *find_ca(const manager_ledger_t *ledger, const char *id)
{
    static const manager_ledger_ca_t unknown;

    for (int i = 0; i < MANAGER_CA_MAX; i++) {
        if (is_id(ledger->cas[i].id, id)) {
            return &ledger->cas[i];
        }
    }
    return &unknown;
}

static int is_configured(const char *cut, const apr_array_header_t *cas)
{
    for (int i = 0; i < cas->nelts; i++) {
        if (is_id(cut, id_of(cas, i))) {
            return 1;
        }
    }
    return 0;
}

/* The entry of a CA to be written to: its own, or one that no CA of the configuration needs. */
static manager_ledger_ca_t *enter_ca(manager_ledger_t *ledger, const char *id,
                                     const apr_array_header_t *cas)
{
    manager_ledger_ca_t *room = &ledger->cas[MANAGER_CA_MAX - 1];

    for (int i = MANAGER_CA_MAX - 1; i >= 0; i--) {
        if (is_id(ledger->cas[i].id, id)) {
            return &ledger->cas[i];
        }
        if (!is_configured(ledger->cas[i].id, cas)) {
            room = &ledger->cas[i];
        }
    }
    memset(room, 0, sizeof(*room));
    base_error_copy_text(room->id, sizeof(room->id), id);
    return room;
}

/* Nothing is noted further ahead than the longest wait; what seems to be is of a clock that was wrong. */
static int is_later(const manager_ledger_ca_t *ca, apr_time_t now)
{
    return ca->until > now && ca->until <= now + MANAGER_LEDGER_WAIT_MAX + MANAGER_LEDGER_WAIT_FIRST;
}

/* Is a better to be tried than b, when neither is good? */
static int is_better(const manager_ledger_ca_t *a, const manager_ledger_ca_t *b, apr_time_t now)
{
    if (is_later(a, now) != is_later(b, now)) {
        return !is_later(a, now);
    }
    return is_later(a, now) ? a->until < b->until : a->failures < b->failures;
}

apr_uint32_t manager_ledger_avoid(const manager_ledger_t *ledger, const apr_array_header_t *cas,
                                  apr_time_t now)
{
    const int n = cas->nelts < MANAGER_CA_MAX ? cas->nelts : MANAGER_CA_MAX;
    const manager_ledger_ca_t *least = NULL;
    apr_uint32_t avoided = 0, left_out = 0;

    for (int i = 0; i < n; i++) {
        const manager_ledger_ca_t *ca = find_ca(ledger, id_of(cas, i));

        if (is_later(ca, now) || ca->failures >= MANAGER_LEDGER_FAILING) {
            avoided |= 1U << i;
        }
        if (!least || is_better(ca, least, now)) {
            least = ca;
            left_out = 1U << i;
        }
    }
    return avoided == (1U << n) - 1 ? avoided & ~left_out : avoided;
}

/* --- Failures --- */

int manager_ledger_is_about(const manager_ledger_t *ledger, const crypto_bundle_t *bundle)
{
    char fingerprint[CRYPTO_BUNDLE_FINGERPRINT_SIZE];

    crypto_bundle_fingerprint(bundle, fingerprint);
    return fingerprint[0] != '\0' && strcmp(fingerprint, ledger->certificate) == 0;
}

/* Does a failed validation count now? Not one of a clock that was wrong. */
static int is_recent(apr_time_t failed, apr_time_t now)
{
    return failed > now - MANAGER_LEDGER_VALIDATIONS_PERIOD
        && failed <= now + MANAGER_LEDGER_VALIDATIONS_PERIOD;
}

int manager_ledger_validations_left(const manager_ledger_t *ledger, apr_time_t now)
{
    int left = MANAGER_LEDGER_VALIDATIONS;

    for (int i = 0; i < MANAGER_LEDGER_VALIDATIONS; i++) {
        if (is_recent(ledger->failed_validations[i], now)) {
            left--;
        }
    }
    return left;
}

static void note_validations(manager_ledger_t *ledger, int count, apr_time_t now)
{
    for (; count > 0; count--) {
        memmove(&ledger->failed_validations[1], &ledger->failed_validations[0],
                sizeof(ledger->failed_validations) - sizeof(ledger->failed_validations[0]));
        ledger->failed_validations[0] = now;
    }
}

/* When the next validation may fail: at once (0), or an hour after the fourth last that did. */
static apr_time_t next_validation(const manager_ledger_t *ledger, apr_time_t now)
{
    if (manager_ledger_validations_left(ledger, now) > 0) {
        return 0;
    }
    return ledger->failed_validations[MANAGER_LEDGER_VALIDATIONS - 1] + MANAGER_LEDGER_VALIDATIONS_PERIOD;
}

/* 1, 10, 100 minutes, then a day; count begins with 1 */
static apr_interval_time_t grow(int count)
{
    apr_interval_time_t wait = MANAGER_LEDGER_WAIT_FIRST;

    if (count > WAIT_STEPS) {
        return MANAGER_LEDGER_WAIT_MAX;
    }
    while (--count > 0) {
        wait *= WAIT_GROWTH;
    }
    return wait;
}

/* No longer than the longest wait, a day or the part of the lifetime; the jitter, a fifth, still
 * has to fit into it: it leaves five sixths. */
static apr_interval_time_t bound(apr_interval_time_t wait, apr_interval_time_t lifetime)
{
    apr_interval_time_t max = MANAGER_LEDGER_WAIT_MAX;

    if (lifetime > 0 && lifetime / LIFETIME_DIVISOR < max) {
        max = lifetime / LIFETIME_DIVISOR;
    }
    max = max / 6 * 5;
    wait = wait < max ? wait : max;
    return wait > MANAGER_LEDGER_WAIT_MIN ? wait : MANAGER_LEDGER_WAIT_MIN;
}

static apr_time_t later_of(apr_time_t a, apr_time_t b)
{
    return a > b ? a : b;
}

/* Note it for the CA it happened with. @return its entry */
static const manager_ledger_ca_t *note_at_ca(manager_ledger_t *ledger,
                                             const manager_ledger_failure_t *failure)
{
    const base_error_t *err = failure->err;
    manager_ledger_ca_t *ca = enter_ca(ledger, id_of(failure->cas, failure->ca), failure->cas);
    apr_time_t max = failure->now + MANAGER_LEDGER_WAIT_MAX;

    if (ca->failures < FAILURES_MAX) {
        ca->failures++;
    }
    ca->until = 0;
    if (err->retry_at > failure->now) {
        /* A CA that says "in a year" is mistaken, or no CA. */
        ca->until = err->retry_at < max ? err->retry_at : max;
    }
    if (err->kind == BASE_ERROR_OPERATOR) {
        ca->until = later_of(ca->until, failure->now + bound(MANAGER_LEDGER_WAIT_MAX, failure->lifetime));
    }
    return ca;
}

/* The CA that is going to be tried next. */
static const manager_ledger_ca_t *next_ca(const manager_ledger_t *ledger, const apr_array_header_t *cas,
                                          apr_time_t now)
{
    apr_uint32_t avoided = manager_ledger_avoid(ledger, cas, now);
    int i = 0;

    while (avoided >> i & 1U) {
        i++;
    }
    return find_ca(ledger, id_of(cas, i));
}

/* The validations of an attempt that was no failure of the name, or that is forgotten, may have used the
 * hour up even so. @param ca id of the CA it happened with, "" for several */
static void keep_limit(manager_ledger_t *ledger, const char *ca, apr_time_t now)
{
    apr_time_t next = next_validation(ledger, now);

    if (next <= ledger->next_try) {
        return;
    }
    ledger->next_try = next;
    /* Who waits is told why. */
    if (ledger->problem.kind == BASE_ERROR_NONE) {
        base_error_set(&ledger->problem, BASE_ERROR_VALIDATION, APR_EGENERAL,
                       "%d validations failed within an hour", MANAGER_LEDGER_VALIDATIONS);
        base_error_copy_text(ledger->problem_ca, sizeof(ledger->problem_ca), ca);
    }
}

int manager_ledger_reconfigure(manager_ledger_t *ledger, apr_uint64_t configuration, apr_time_t now)
{
    if (ledger->configuration == configuration) {
        return 0;
    }
    ledger->configuration = configuration;
    ledger->failures = 0;
    ledger->next_try = 0;
    base_error_clear(&ledger->problem);
    ledger->problem_ca[0] = '\0';
    memset(ledger->cas, 0, sizeof(ledger->cas));
    keep_limit(ledger, "", now);
    return 1;
}

void manager_ledger_fail(manager_ledger_t *ledger, const manager_ledger_failure_t *failure)
{
    const base_error_t *err = failure->err;
    const apr_time_t now = failure->now;
    const manager_ledger_ca_t *failed, *next;
    apr_interval_time_t wait = 0;

    note_validations(ledger, failure->validations, now);
    switch (err->kind) {
    case BASE_ERROR_NONE:
    case BASE_ERROR_CANCELLED:
    case BASE_ERROR_BUSY:
    case BASE_ERROR_CA_DOWN:
    case BASE_ERROR_REFUSED:
        keep_limit(ledger, id_of(failure->cas, failure->ca), now);
        return;
    default:
        break;
    }
    if (ledger->failures < FAILURES_MAX) {
        ledger->failures++;
    }
    ledger->problem = *err;
    failed = note_at_ca(ledger, failure);
    base_error_copy_text(ledger->problem_ca, sizeof(ledger->problem_ca), failed->id);
    next = next_ca(ledger, failure->cas, now);
    if (next->failures > 0) {
        int hopeless = next == failed && err->kind == BASE_ERROR_OPERATOR;

        wait = bound(hopeless ? MANAGER_LEDGER_WAIT_MAX : grow(next->failures), failure->lifetime);
    }
    /* The jitter comes after the CA's moment too, which it told all names alike. */
    ledger->next_try = (is_later(next, now) ? later_of(now + wait, next->until) : now + wait)
        + (apr_time_t)(((apr_uint64_t)(wait / JITTER_DIVISOR) * (failure->random >> 8)) >> 24);
    ledger->next_try = later_of(ledger->next_try, next_validation(ledger, now));
}

/* --- Success --- */

/* Did the certificate before end because of its window, soon after it had begun? */
static int is_hasty(const manager_ledger_t *ledger, const manager_ledger_success_t *success)
{
    apr_interval_time_t age = success->now - ledger->issued;
    apr_interval_time_t soon = success->lifetime > 0 ? success->lifetime / HASTY_DIVISOR : HASTY_DEFAULT;

    return ledger->window_start > 0 && ledger->window_chosen <= success->now && ledger->issued > 0
        && age < soon;
}

void manager_ledger_succeed(manager_ledger_t *ledger, const manager_ledger_success_t *success)
{
    manager_ledger_t next = { .configuration = ledger->configuration, .visited = ledger->visited };

    if (is_hasty(ledger, success)) {
        next.hasty = ledger->hasty < FAILURES_MAX ? ledger->hasty + 1 : FAILURES_MAX;
    }
    memcpy(next.failed_validations, ledger->failed_validations, sizeof(next.failed_validations));
    note_validations(&next, success->validations, success->now);
    base_error_copy_text(next.certificate, sizeof(next.certificate), success->certificate);
    base_error_copy_text(next.ca, sizeof(next.ca), success->ca->acme.directory_url);
    base_error_copy_text(next.account, sizeof(next.account), success->account);
    base_error_copy_text(next.challenge, sizeof(next.challenge),
                         success->challenge ? success->challenge : ledger->challenge);
    next.test = success->ca->test != 0;
    next.issued = success->now;
    *ledger = next;
}
