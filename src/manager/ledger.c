/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "manager/ledger.h"

#include <stdlib.h>
#include <string.h>

#include <apr_strings.h>

#include "base/json.h"
#include "manager/renewal.h"

#define VERSION 1
#define KEY_SUFFIX "+state"
#define FAILURES_MAX 1000000        /* the count stops here */
#define SECONDS_MAX (APR_INT64_MAX / APR_USEC_PER_SEC)
#define WAIT_GROWTH 10
#define LIFETIME_DIVISOR 20         /* no wait longer than this part of a lifetime */
#define JITTER_DIVISOR 5            /* 20 % */
#define HASTY_MAX 16
#define HASTY_FACTOR 2              /* replaced before so many times the least age is hasty */

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

/* --- Reading --- */

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

static void load_cas(manager_ledger_t *ledger, json_t *list)
{
    size_t n = json_array_size(list);

    for (size_t i = 0; i < n && i < MANAGER_CA_MAX; i++) {
        const json_t *entry = json_array_get(list, i);

        copy_member(ledger->cas[i].id, sizeof(ledger->cas[i].id), entry, "id");
        ledger->cas[i].failures = (int)bounded_integer(entry, "failures", FAILURES_MAX);
        ledger->cas[i].until = moment(entry, "until");
    }
}

static void load_validations(manager_ledger_t *ledger, json_t *list)
{
    for (size_t i = 0; i < json_array_size(list) && i < MANAGER_LEDGER_VALIDATIONS; i++) {
        json_int_t value = json_integer_value(json_array_get(list, i));

        ledger->failed_validations[i] = value > 0 && value <= SECONDS_MAX ? apr_time_from_sec(value) : 0;
    }
}

static void load_certificate(manager_ledger_t *ledger, const json_t *record)
{
    const json_t *window = base_json_object(record, "window");

    copy_member(ledger->certificate, sizeof(ledger->certificate), record, "certificate");
    copy_member(ledger->ca, sizeof(ledger->ca), record, "ca");
    copy_member(ledger->account, sizeof(ledger->account), record, "account");
    ledger->test = base_json_true(record, "test");
    ledger->issued = moment(record, "issued");
    ledger->hasty = (int)bounded_integer(record, "hasty", HASTY_MAX);
    ledger->window_start = moment(window, "start");
    ledger->window_end = moment(window, "end");
    ledger->window_chosen = moment(window, "chosen");
    ledger->info_next = moment(record, "info_next");
    ledger->info_failures = (int)bounded_integer(record, "info_failures", FAILURES_MAX);
    copy_member(ledger->explanation, sizeof(ledger->explanation), record, "explanation");
}

void manager_ledger_load(manager_ledger_t *ledger, cache_t *cache, const char *key,
                         apr_pool_t *pool)
{
    const char *configuration;
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
    copy_member(ledger->problem_ca, sizeof(ledger->problem_ca), record, "problem_ca");
    load_cas(ledger, base_json_array(record, "cas"));
    load_validations(ledger, base_json_array(record, "validations"));
    configuration = base_json_string(record, "configuration");
    ledger->configuration = configuration ? strtoull(configuration, NULL, 16) : 0;
    load_certificate(ledger, record);
    copy_member(ledger->challenge, sizeof(ledger->challenge), record, "challenge");
    ledger->visited = moment(record, "visited");
}

/* --- Writing --- */

/* What cannot be written (not UTF-8) must not cost the rest. */
static void set_if_made(json_t *record, const char *key, json_t *value)
{
    if (value) {
        json_object_set_new(record, key, value);
    }
}

static void store_problem(json_t *record, const manager_ledger_t *ledger)
{
    const base_error_t *problem = &ledger->problem;

    if (problem->kind <= BASE_ERROR_NONE || (size_t)problem->kind >= KINDS) {
        return;
    }
    set_if_made(record, "problem", json_pack("{s:s, s:i, s:i, s:I, s:s, s:s}",
                                             "kind", kinds[problem->kind], "status", problem->status,
                                             "http", problem->http_status,
                                             "retry", seconds_of(problem->retry_at),
                                             "type", problem->type, "detail", problem->detail));
    set_if_made(record, "problem_ca", json_string(ledger->problem_ca));
}

static void store_cas(json_t *record, const manager_ledger_t *ledger)
{
    json_t *list = json_array();

    for (int i = 0; i < MANAGER_CA_MAX; i++) {
        const manager_ledger_ca_t *ca = &ledger->cas[i];

        if (ca->id[0]) {
            json_array_append_new(list, json_pack("{s:s, s:i, s:I}", "id", ca->id, "failures", ca->failures,
                                                  "until", seconds_of(ca->until)));
        }
    }
    set_if_made(record, "cas", list);
}

static void store_validations(json_t *record, const manager_ledger_t *ledger)
{
    json_t *list = json_array();

    for (int i = 0; i < MANAGER_LEDGER_VALIDATIONS; i++) {
        json_array_append_new(list, json_integer(seconds_of(ledger->failed_validations[i])));
    }
    set_if_made(record, "validations", list);
}

static void store_certificate(json_t *record, const manager_ledger_t *ledger)
{
    set_if_made(record, "certificate", json_string(ledger->certificate));
    set_if_made(record, "ca", json_string(ledger->ca));
    set_if_made(record, "account", json_string(ledger->account));
    set_if_made(record, "test", json_boolean(ledger->test));
    set_if_made(record, "issued", json_integer(seconds_of(ledger->issued)));
    set_if_made(record, "hasty", json_integer(ledger->hasty));
    set_if_made(record, "info_next", json_integer(seconds_of(ledger->info_next)));
    set_if_made(record, "info_failures", json_integer(ledger->info_failures));
    if (ledger->window_start > 0) {
        set_if_made(record, "window", json_pack("{s:I, s:I, s:I}", "start", seconds_of(ledger->window_start),
                                                "end", seconds_of(ledger->window_end), "chosen",
                                                seconds_of(ledger->window_chosen)));
    }
    if (ledger->explanation[0]) {
        set_if_made(record, "explanation", json_string(ledger->explanation));
    }
}

apr_status_t manager_ledger_store(const manager_ledger_t *ledger, cache_t *cache,
                                  const char *key, apr_pool_t *pool)
{
    json_t *record = json_pack("{s:i, s:i, s:I, s:s, s:s, s:I}", "v", VERSION,
                               "failures", ledger->failures, "next", seconds_of(ledger->next_try),
                               "challenge", ledger->challenge,
                               "configuration",
                               apr_psprintf(pool, "%016" APR_UINT64_T_HEX_FMT, ledger->configuration),
                               "visited", seconds_of(ledger->visited));
    const char *text;

    if (record) {
        store_problem(record, ledger);
        store_cas(record, ledger);
        store_validations(record, ledger);
        store_certificate(record, ledger);
    }
    text = record ? base_json_dump(record, pool) : NULL;
    if (!text) {
        return APR_EGENERAL;
    }
    return cache_put(cache, AUTOCERT_CACHE_PRIVATE, record_of(key, pool), text, strlen(text),
                     pool);
}

static void forget_failures(manager_ledger_t *ledger)
{
    ledger->failures = 0;
    ledger->next_try = 0;
    base_error_clear(&ledger->problem);
    ledger->problem_ca[0] = '\0';
    memset(ledger->cas, 0, sizeof(ledger->cas));
}

int manager_ledger_reconfigure(manager_ledger_t *ledger, apr_uint64_t configuration)
{
    if (ledger->configuration == configuration) {
        return 0;
    }
    ledger->configuration = configuration;
    forget_failures(ledger);
    return 1;
}

/* --- Failed validations --- */

static void note_validations(manager_ledger_t *ledger, int count, apr_time_t now)
{
    apr_time_t *times = ledger->failed_validations;

    for (; count > 0; count--) {
        memmove(times + 1, times, (MANAGER_LEDGER_VALIDATIONS - 1) * sizeof(times[0]));
        times[0] = now;
    }
}

int manager_ledger_validations_left(const manager_ledger_t *ledger, apr_time_t now)
{
    int left = MANAGER_LEDGER_VALIDATIONS;

    for (int i = 0; i < MANAGER_LEDGER_VALIDATIONS; i++) {
        apr_time_t at = ledger->failed_validations[i];

        /* one of the future is of a clock that was wrong: it counts as one of now */
        left -= at > 0 && at > now - MANAGER_LEDGER_VALIDATIONS_PERIOD;
    }
    return left;
}

/* No try before there is one left. */
static void keep_limit(manager_ledger_t *ledger, apr_time_t now)
{
    apr_time_t oldest = ledger->failed_validations[MANAGER_LEDGER_VALIDATIONS - 1];

    if (oldest > now) {
        oldest = now;
    }
    if (manager_ledger_validations_left(ledger, now) == 0
        && ledger->next_try < oldest + MANAGER_LEDGER_VALIDATIONS_PERIOD) {
        ledger->next_try = oldest + MANAGER_LEDGER_VALIDATIONS_PERIOD;
    }
}

/* --- CAs --- */

static const char *id_of(const apr_array_header_t *cas, int i)
{
    return APR_ARRAY_IDX(cas, i, const manager_ca_config_t *)->acme.id;
}

static int is_entry_of(const manager_ledger_ca_t *entry, const char *id)
{
    return entry->id[0] && strncmp(entry->id, id, sizeof(entry->id) - 1) == 0;
}

/* How the name fares at a CA; NULL: it has not failed there. */
static const manager_ledger_ca_t *find_entry(const manager_ledger_t *ledger, const char *id)
{
    for (int i = 0; i < MANAGER_CA_MAX; i++) {
        if (is_entry_of(&ledger->cas[i], id)) {
            return &ledger->cas[i];
        }
    }
    return NULL;
}

/* The same, made when there is none; as many fit as there may be CAs, those of older lists go. */
static manager_ledger_ca_t *get_entry(manager_ledger_t *ledger, const char *id)
{
    manager_ledger_ca_t *entry = (manager_ledger_ca_t *)find_entry(ledger, id);

    if (entry) {
        return entry;
    }
    memmove(ledger->cas + 1, ledger->cas, (MANAGER_CA_MAX - 1) * sizeof(ledger->cas[0]));
    memset(&ledger->cas[0], 0, sizeof(ledger->cas[0]));
    apr_cpystrn(ledger->cas[0].id, id, sizeof(ledger->cas[0].id));
    return &ledger->cas[0];
}

/* Which of two CAs that are both to be avoided is the lesser evil? */
static int is_better(const manager_ledger_ca_t *a, const manager_ledger_ca_t *b, apr_time_t now)
{
    if ((a->until > now) != (b->until > now)) {
        return a->until <= now;
    }
    return a->until > now ? a->until < b->until : a->failures < b->failures;
}

apr_uint32_t manager_ledger_avoid(const manager_ledger_t *ledger, const apr_array_header_t *cas,
                                  apr_time_t now)
{
    apr_uint32_t avoid = 0, all = (1u << cas->nelts) - 1;
    const manager_ledger_ca_t *best = NULL;
    int best_index = 0;

    for (int i = 0; i < cas->nelts; i++) {
        const manager_ledger_ca_t *entry = find_entry(ledger, id_of(cas, i));

        if (entry && (entry->failures >= MANAGER_LEDGER_FAILING || entry->until > now)) {
            avoid |= 1u << i;
            if (!best || is_better(entry, best, now)) {
                best = entry;
                best_index = i;
            }
        }
    }
    return avoid == all ? avoid & ~(1u << best_index) : avoid;
}

/* --- Failure and success --- */

/* 1, 10, 100 minutes, then a day; count begins with 1 */
static apr_interval_time_t grow(int count)
{
    apr_interval_time_t wait = MANAGER_LEDGER_WAIT_FIRST;

    while (--count > 0 && wait < MANAGER_LEDGER_WAIT_MAX) {
        wait *= WAIT_GROWTH;
    }
    return wait < MANAGER_LEDGER_WAIT_MAX ? wait : MANAGER_LEDGER_WAIT_MAX;
}

/* How long a name waits for its next try at a CA where it has failed. */
static apr_interval_time_t wait_at(const manager_ledger_ca_t *entry, const manager_ledger_failure_t *failure)
{
    apr_interval_time_t wait = failure->err->kind == BASE_ERROR_OPERATOR ? MANAGER_LEDGER_WAIT_MAX
                                                                      : grow(entry->failures);

    if (failure->lifetime > 0) {
        /* The jitter, a fifth, still has to fit into the part: it leaves five sixths. */
        apr_interval_time_t max = failure->lifetime / LIFETIME_DIVISOR / 6 * 5;

        wait = wait < max ? wait : max;
    }
    return wait > MANAGER_LEDGER_WAIT_MIN ? wait : MANAGER_LEDGER_WAIT_MIN;
}

/* Set next_try by the CA that is to be tried then; the jitter comes after the CA's moment too, which
 * it told all names alike. */
static void schedule(manager_ledger_t *ledger, const manager_ledger_failure_t *failure)
{
    apr_uint32_t avoid = manager_ledger_avoid(ledger, failure->cas, failure->now);
    const manager_ledger_ca_t *entry;
    apr_interval_time_t wait;
    apr_time_t next = failure->now;
    int i = 0;

    while (i < failure->cas->nelts - 1 && ((avoid >> i) & 1)) {
        i++;
    }
    entry = find_entry(ledger, id_of(failure->cas, i));
    if (entry && entry->failures > 0) {
        wait = wait_at(entry, failure);
        next = entry->until > failure->now + wait ? entry->until : failure->now + wait;
        next += (apr_time_t)(((apr_uint64_t)(wait / JITTER_DIVISOR) * (failure->random >> 8)) >> 24);
    }
    ledger->next_try = next;
}

/* Note it at the CA it happened with. */
static void note_at_ca(manager_ledger_t *ledger, const manager_ledger_failure_t *failure)
{
    manager_ledger_ca_t *entry = get_entry(ledger, id_of(failure->cas, failure->ca));
    apr_time_t latest = failure->now + MANAGER_LEDGER_WAIT_MAX;

    if (entry->failures < FAILURES_MAX) {
        entry->failures++;
    }
    if (failure->err->kind == BASE_ERROR_OPERATOR && entry->failures < MANAGER_LEDGER_FAILING) {
        entry->failures = MANAGER_LEDGER_FAILING;
    }
    /* A CA that says "in a year" is mistaken, or no CA. */
    entry->until = failure->err->retry_at < latest ? failure->err->retry_at : latest;
}

void manager_ledger_fail(manager_ledger_t *ledger, const manager_ledger_failure_t *failure)
{
    note_validations(ledger, failure->validations, failure->now);
    switch (failure->err->kind) {
    case BASE_ERROR_NONE:
    case BASE_ERROR_CANCELLED:
    case BASE_ERROR_BUSY:
    case BASE_ERROR_CA_DOWN:
    case BASE_ERROR_REFUSED:
        break;
    default:
        if (ledger->failures < FAILURES_MAX) {
            ledger->failures++;
        }
        ledger->problem = *failure->err;
        apr_cpystrn(ledger->problem_ca, id_of(failure->cas, failure->ca), sizeof(ledger->problem_ca));
        note_at_ca(ledger, failure);
        schedule(ledger, failure);
        break;
    }
    keep_limit(ledger, failure->now);
}

/* Was the certificate before replaced about as soon as its window was allowed to? */
static int count_hasty(const manager_ledger_t *ledger, apr_time_t now)
{
    apr_interval_time_t age = now - ledger->issued;

    if (ledger->issued == 0 || ledger->window_start == 0 || ledger->window_chosen > now
        || age >= HASTY_FACTOR * manager_renewal_least_age(ledger->hasty)) {
        return 0;
    }
    return ledger->hasty < HASTY_MAX ? ledger->hasty + 1 : HASTY_MAX;
}

void manager_ledger_succeed(manager_ledger_t *ledger, const manager_ledger_success_t *success)
{
    const acme_client_config_t *ca = &success->ca->acme;
    int hasty = count_hasty(ledger, success->now);

    forget_failures(ledger);
    base_error_copy_text(ledger->certificate, sizeof(ledger->certificate), success->certificate);
    base_error_copy_text(ledger->ca, sizeof(ledger->ca), ca->directory_url);
    base_error_copy_text(ledger->account, sizeof(ledger->account), success->account ? success->account : "");
    ledger->test = success->ca->test != 0;
    ledger->issued = success->now;
    ledger->hasty = hasty;
    ledger->window_start = ledger->window_end = ledger->window_chosen = 0;
    ledger->info_next = 0;
    ledger->info_failures = 0;
    ledger->explanation[0] = '\0';
    if (success->challenge) {
        base_error_copy_text(ledger->challenge, sizeof(ledger->challenge), success->challenge);
    }
}
