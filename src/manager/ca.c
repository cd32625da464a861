/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "manager/ca.h"

#include <string.h>

#include <apr_strings.h>

#include "base/hostname.h"
#include "base/json.h"

#define KEY_PREFIX "ca+"
#define VERSION 1
#define FAILURES_MAX 1000000
#define SECONDS_MAX (APR_INT64_MAX / APR_USEC_PER_SEC)
#define SHIFT_MAX 16                    /* doublings of a pause that are computed */

/* --- The list --------------------------------------------------------------- */

apr_status_t manager_ca_create(apr_array_header_t **cas, const apr_array_header_t *configs, cache_t *cache,
                               const base_stop_t *stop, apr_time_t (*now)(void), apr_pool_t *pool)
{
    *cas = apr_array_make(pool, configs->nelts, sizeof(manager_ca_t));
    for (int i = 0; i < configs->nelts; i++) {
        manager_ca_t *ca = apr_array_push(*cas);
        acme_client_t *client = NULL;
        apr_status_t rv;

        memset(ca, 0, sizeof(*ca));
        ca->config = APR_ARRAY_IDX(configs, i, const manager_ca_config_t *);
        if ((rv = acme_client_create(&client, &ca->config->acme, stop, now, pool)) != APR_SUCCESS
            || (rv = acme_account_create(&ca->account, client, cache, pool)) != APR_SUCCESS)
            return rv;
        manager_ca_load(&ca->health, ca->config, cache, now(), pool);
    }
    return APR_SUCCESS;
}

manager_ca_t *manager_ca_at(const apr_array_header_t *cas, int i)
{
    return &APR_ARRAY_IDX(cas, i, manager_ca_t);
}

int manager_ca_find(const apr_array_header_t *configs, const char *directory_url)
{
    for (int i = 0; i < configs->nelts; i++)
        if (strcmp(APR_ARRAY_IDX(configs, i, const manager_ca_config_t *)->acme.directory_url,
                   directory_url) == 0)
            return i;
    return -1;
}

/* --- The record --------------------------------------------------------------- */

static const char *record_of(const manager_ca_config_t *config, apr_pool_t *pool)
{
    return apr_pstrcat(pool, KEY_PREFIX, config->acme.id, NULL);
}

/* Whatever an administrator may have changed because of a problem with the CA. Secrets count by a hash of
 * 32 bits, which gives nothing away. */
static const char *describe(const manager_ca_config_t *config, apr_pool_t *pool)
{
    const acme_client_config_t *acme = &config->acme;
    const char *text = apr_pstrcat(pool, acme->directory_url, " ", acme->cafile ? acme->cafile : "", " ",
                                   acme->proxy ? acme->proxy : "", " ", acme->email ? acme->email : "", " ",
                                   acme->eab_kid ? acme->eab_kid : "", " ",
                                   acme->eab_key ? acme->eab_key : "", " ",
                                   acme->account_pem ? acme->account_pem : "", " ",
                                   acme->profile ? acme->profile : "", acme->tos_any ? " any" : "", NULL);

    for (int i = 0; acme->tos_urls != NULL && i < acme->tos_urls->nelts; i++)
        text = apr_pstrcat(pool, text, " ", APR_ARRAY_IDX(acme->tos_urls, i, const char *), NULL);
    return apr_psprintf(pool, "%08x", base_hostname_hash(text));
}

static apr_time_t moment(const json_t *record, const char *member)
{
    json_int_t value = base_json_integer(record, member, 0);

    return value > 0 && value < SECONDS_MAX ? apr_time_from_sec(value) : 0;
}

static json_int_t seconds_of(apr_time_t time)
{
    return apr_time_sec(time) + (apr_time_usec(time) > 0);
}

void manager_ca_load(manager_ca_health_t *health, const manager_ca_config_t *config, cache_t *cache,
                     apr_time_t now, apr_pool_t *pool)
{
    json_t *record = NULL;
    const char *configuration, *text;
    json_int_t failures;
    char *data = NULL;
    apr_size_t len = 0;

    memset(health, 0, sizeof(*health));
    base_error_clear(&health->problem);
    if (cache_get(cache, AUTOCERT_CACHE_PRIVATE, record_of(config, pool), &data, &len, pool) == APR_SUCCESS)
        record = base_json_parse_object(data, len, pool);
    failures = base_json_integer(record, "failures", 0);
    configuration = base_json_string(record, "configuration");
    if (base_json_integer(record, "v", 0) != VERSION || failures <= 0 || failures > FAILURES_MAX
        || (!base_json_true(record, "limited")
            && (configuration == NULL || strcmp(configuration, describe(config, pool)) != 0)))
        return;
    health->failures = (int)failures;
    health->since = moment(record, "since");
    health->until = moment(record, "until");
    /* From the future: somebody's clock was wrong. */
    if (health->until > now + MANAGER_CA_RETRY_AFTER_MAX)
        health->until = now + MANAGER_CA_RETRY_AFTER_MAX;
    if (health->since > now)
        health->since = now;
    health->refusing = base_json_true(record, "refusing");
    base_error_set(&health->problem, base_json_true(record, "limited") ? BASE_ERROR_WAIT
                                       : health->refusing ? BASE_ERROR_OPERATOR : BASE_ERROR_CA_DOWN,
                   APR_EGENERAL, "it said so before");
    if ((text = base_json_string(record, "detail")) != NULL)
        base_error_copy_text(health->problem.detail, sizeof(health->problem.detail), text);
    base_error_copy_text(health->problem.type, sizeof(health->problem.type),
                         (text = base_json_string(record, "type")) != NULL ? text : "");
    health->problem.retry_at = health->until;
}

void manager_ca_store(const manager_ca_health_t *health, const manager_ca_config_t *config, cache_t *cache,
                      apr_pool_t *pool)
{
    const char *text;
    json_t *record;

    if (health->failures == 0) {
        cache_remove(cache, AUTOCERT_CACHE_PRIVATE, record_of(config, pool), pool);
        return;
    }
    record = json_pack("{s:i, s:i, s:I, s:I, s:b, s:b, s:s, s:s, s:s}", "v", VERSION, "failures",
                       health->failures, "since", seconds_of(health->since), "until",
                       seconds_of(health->until), "refusing", health->refusing, "limited",
                       health->problem.kind == BASE_ERROR_WAIT, "configuration", describe(config, pool),
                       "type", health->problem.type, "detail", health->problem.detail);
    text = record != NULL ? base_json_dump(record, pool) : NULL;
    if (text != NULL)
        cache_put(cache, AUTOCERT_CACHE_PRIVATE, record_of(config, pool), text, strlen(text), pool);
}

/* --- Its health ----------------------------------------------------------------- */

static apr_interval_time_t grow(int failures, apr_interval_time_t longest)
{
    apr_interval_time_t pause = MANAGER_CA_PAUSE_FIRST << (failures < SHIFT_MAX ? failures : SHIFT_MAX);

    if (longest > MANAGER_CA_PAUSE_MAX)
        longest = MANAGER_CA_PAUSE_MAX;
    return pause < longest ? pause : longest;
}

int manager_ca_fail(manager_ca_health_t *health, const base_error_t *problem,
                    apr_interval_time_t longest, apr_time_t now)
{
    apr_time_t until = now + grow(health->failures, longest);
    int paused = health->failures > 0 && health->until > now;

    if (problem->retry_at > now)
        until = problem->retry_at < now + MANAGER_CA_RETRY_AFTER_MAX ? problem->retry_at
                                                                   : now + MANAGER_CA_RETRY_AFTER_MAX;
    else if (problem->kind == BASE_ERROR_OPERATOR)
        until = now + MANAGER_CA_PAUSE_OPERATOR;
    if (paused && (problem->retry_at <= now || until <= health->until))
        return 0;
    if (health->failures == 0)
        health->since = now;
    if (!paused && health->failures < FAILURES_MAX)
        health->failures++;
    health->until = until;
    health->refusing = problem->kind != BASE_ERROR_CA_DOWN;
    health->problem = *problem;
    return 1;
}

int manager_ca_wants_check(const manager_ca_t *ca, apr_time_t now)
{
    return ca->health.failures > 0 && ca->health.until <= now && !ca->checked && !ca->checking;
}

int manager_ca_is_usable(const manager_ca_t *ca, apr_time_t now)
{
    return ca->health.failures == 0 || (ca->health.until <= now && ca->checked && ca->running == 0);
}

/* --- The choice ------------------------------------------------------------------ */

static void note_when(manager_ca_choice_t *choice, apr_time_t when, apr_time_t now)
{
    if (when > now && (choice->when == 0 || when < choice->when))
        choice->when = when;
}

/* Is the name willing to wait for this CA, which is not well? */
static int is_patient(const manager_ca_t *ca, const manager_ca_need_t *need, manager_ca_choice_t *choice,
                      apr_time_t now)
{
    apr_interval_time_t patience = need->lifetime / MANAGER_CA_PATIENCE_PART;
    apr_time_t begun = need->due > ca->health.since ? need->due : ca->health.since;

    if (patience > MANAGER_CA_PATIENCE_MAX)
        patience = MANAGER_CA_PATIENCE_MAX;
    note_when(choice, ca->health.until, now);
    if (!ca->health.refusing || ca->health.until <= now)
        choice->refused = 0;
    if (now - begun >= patience)
        return 0;
    note_when(choice, begun + patience, now);
    return 1;
}

/* Look at one CA. @return non-zero when the search is over */
static int consider(manager_ca_choice_t *choice, const apr_array_header_t *cas, int i,
                    const manager_ca_need_t *need, apr_time_t now)
{
    const manager_ca_t *ca = manager_ca_at(cas, i);

    if (!manager_ca_is_usable(ca, now))
        return is_patient(ca, need, choice, now);
    if (ca->budget_until > now && need->saved != i) {
        note_when(choice, ca->budget_until, now);
        return 0;
    }
    choice->ca = i;
    return 1;
}

void manager_ca_choose(manager_ca_choice_t *choice, const apr_array_header_t *cas,
                       const manager_ca_need_t *need, apr_time_t now)
{
    int done = 0, pass, i;

    memset(choice, 0, sizeof(*choice));
    choice->ca = -1;
    choice->refused = 1;
    if (need->saved >= 0 && need->saved < cas->nelts && !((need->avoid >> need->saved) & 1))
        done = consider(choice, cas, need->saved, need, now);
    for (pass = 0; pass < 2 && !done; pass++)
        for (i = 0; i < cas->nelts && !done; i++)
            if (((need->avoid >> i) & 1) == (apr_uint32_t)pass)
                done = consider(choice, cas, i, need, now);
}
