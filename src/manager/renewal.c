/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "manager/renewal.h"

#include <string.h>

#include "base/log.h"
#include "crypto/cert.h"

#define AGE_DIVISOR 10              /* a tenth of the lifetime */
#define AGE_MAX_DIVISOR 5           /* a fifth of it, after hasty issuances */
#define CLOCK_SKEW_MAX MANAGER_RENEWAL_AGE_MIN      /* how far ahead another node's clock may be */
#define LATER_DIVISOR 20            /* questions come up to 5 % later */
#define FAILURES_MAX 1000           /* the count stops here */
#define RANDOM_FACTOR 2654435761U   /* a second random number from the first (Knuth's multiplicative hash) */

static apr_time_t later_of(apr_time_t a, apr_time_t b)
{
    return a > b ? a : b;
}

static apr_time_t earlier_of(apr_time_t a, apr_time_t b)
{
    return a < b ? a : b;
}

/* The random part of span: uniform in [0, span). */
static apr_interval_time_t part_of(apr_interval_time_t span, apr_uint32_t random)
{
    /* In two steps: a span of centuries times 2^32 would not fit. */
    apr_uint64_t low = (apr_uint64_t)(span & 0xffffffff) * random;

    return (span >> 32) * random + (apr_interval_time_t)(low >> 32);
}

/* --- When --- */

/* How old a certificate has to be before anything but its end makes it due. */
static apr_interval_time_t age_min(apr_interval_time_t lifetime)
{
    return earlier_of(MANAGER_RENEWAL_AGE_MIN, lifetime / AGE_DIVISOR);
}

/* The same for a window, growing with each issuance that came too soon. */
static apr_interval_time_t age_for_window(apr_interval_time_t lifetime, int hasty)
{
    apr_interval_time_t age = age_min(lifetime), max = lifetime / AGE_MAX_DIVISOR;

    for (; hasty > 0 && age > 0 && age < max; hasty--) {
        age *= MANAGER_RENEWAL_AGE_GROWTH;
    }
    return earlier_of(age, max);
}

/* When it was stored, as far as that is known. */
static apr_time_t stored_at(const crypto_bundle_t *bundle, const manager_ledger_t *ledger, apr_time_t now)
{
    /* A moment that is still ahead is of a clock that was wrong, and would hold back for just as long. */
    return ledger->issued > 0 && ledger->issued <= now + CLOCK_SKEW_MAX ? ledger->issued : bundle->not_before;
}

static void plan_questions(manager_renewal_plan_t *plan, const crypto_bundle_t *bundle,
                           const manager_ledger_t *ledger, apr_time_t now)
{
    const apr_time_t latest = now + MANAGER_RENEWAL_INFO_MAX + MANAGER_RENEWAL_INFO_MAX / LATER_DIVISOR;

    plan->ask = ledger->info_next > 0 && ledger->info_next <= latest ? ledger->info_next : now;
    if (later_of(plan->ask, now) >= bundle->not_after) {
        plan->ask = 0;
    }
}

void manager_renewal_plan(manager_renewal_plan_t *plan, const manager_policy_name_t *name,
                          const crypto_bundle_t *bundle, const manager_ledger_t *ledger, int asks,
                          apr_time_t now)
{
    static const manager_ledger_t nothing;
    const apr_interval_time_t lifetime = bundle->not_after - bundle->not_before;
    apr_time_t stored, first;

    memset(plan, 0, sizeof(*plan));
    if (!manager_ledger_is_about(ledger, bundle)) {
        ledger = &nothing;
    }
    stored = stored_at(bundle, ledger, now);
    plan->due = manager_policy_renew_at(name, bundle->not_before, bundle->not_after);
    first = stored + age_min(lifetime);
    if (first < bundle->not_after) {
        plan->due = later_of(plan->due, first);
    }
    if (!asks) {
        return;
    }
    plan_questions(plan, bundle, ledger, now);
    if (ledger->window_start > 0) {
        apr_time_t due = later_of(ledger->window_chosen, stored + age_for_window(lifetime, ledger->hasty));

        plan->by_window = due < plan->due;
        plan->due = earlier_of(plan->due, due);
    }
}

/* --- Questions --- */

/* Ask again then, a little later, so that names do not ask all at once. */
static void ask_again(manager_ledger_t *ledger, apr_interval_time_t wait, apr_time_t now, apr_uint32_t random)
{
    ledger->info_next = now + wait + part_of(wait / LATER_DIVISOR, random * RANDOM_FACTOR);
}

/* How long until the CA's Retry-After, within reason. */
static apr_interval_time_t wait_until(apr_time_t retry_at, apr_time_t now)
{
    if (retry_at == 0) {
        return MANAGER_RENEWAL_INFO_DEFAULT;
    }
    if (retry_at > now + MANAGER_RENEWAL_INFO_MAX) {
        return MANAGER_RENEWAL_INFO_MAX;
    }
    return later_of(retry_at - now, MANAGER_RENEWAL_INFO_MIN);
}

/* The ledger keeps whole seconds, and a window must not look like another one after a restart. */
static apr_time_t floor_of(apr_time_t time)
{
    return apr_time_from_sec(apr_time_sec(time));
}

static apr_time_t ceiling_of(apr_time_t time)
{
    return floor_of(time + APR_USEC_PER_SEC - 1);
}

/* Uniformly in [start, end), in a whole second where one lies in it. */
static apr_time_t choose(const acme_renewal_info_t *info, apr_uint32_t random)
{
    apr_time_t chosen = info->start + part_of(info->end - info->start, random);

    return ceiling_of(chosen) < info->end ? ceiling_of(chosen) : floor_of(chosen);
}

int manager_renewal_note_window(manager_ledger_t *ledger, const acme_renewal_info_t *info, apr_time_t now,
                                apr_uint32_t random)
{
    const apr_time_t start = floor_of(info->start), end = ceiling_of(info->end);

    ledger->info_failures = 0;
    ask_again(ledger, wait_until(info->retry_at, now), now, random);
    if (ledger->window_start == start && ledger->window_end == end) {
        return 0;
    }
    ledger->window_start = start;
    ledger->window_end = end;
    ledger->window_chosen = choose(info, random);
    return 1;
}

/* What the ledger says must be about this certificate; who asks knows whose it is. */
static void turn_to(manager_ledger_t *ledger, const char *certificate, const acme_client_config_t *ca)
{
    if (strcmp(ledger->certificate, certificate) == 0) {
        return;
    }
    base_error_copy_text(ledger->certificate, sizeof(ledger->certificate), certificate);
    base_error_copy_text(ledger->ca, sizeof(ledger->ca), ca->directory_url);
    ledger->account[0] = '\0';
    ledger->issued = 0;
    ledger->hasty = 0;
    ledger->window_start = ledger->window_end = ledger->window_chosen = 0;
    ledger->info_next = 0;
    ledger->info_failures = 0;
    ledger->explanation[0] = '\0';
}

static void tell_window(const manager_ledger_t *ledger, const acme_client_config_t *ca, const char *name,
                        apr_time_t now)
{
    char start[32], end[32], chosen[32];
    int past = ledger->window_chosen <= now;

    base_log_moment(start, apr_time_sec(ledger->window_start), apr_time_sec(now));
    base_log_moment(end, apr_time_sec(ledger->window_end), apr_time_sec(now));
    base_log_moment(chosen, apr_time_sec(ledger->window_chosen), apr_time_sec(now));
    base_log(BASE_LOG_NOTICE, "AC0180", name, "CA %s now wants it renewed between %s and %s; it is renewed "
             "%s%s", ca->name, start, end, past ? "soon" : "by ", past ? "" : chosen);
}

/* Each text once, as long as the CA does not take it back. */
static void show_explanation(manager_ledger_t *ledger, const char *explanation,
                             const acme_client_config_t *ca, const char *name)
{
    char text[MANAGER_LEDGER_EXPLANATION_MAX];

    base_error_copy_text(text, sizeof(text), explanation);
    if (text[0] != '\0' && strcmp(text, ledger->explanation) != 0) {
        base_log(BASE_LOG_NOTICE, "AC0181", name, "CA %s explains when it wants it renewed: %s; it is "
                 "renewed by itself", ca->name, text);
    }
    memcpy(ledger->explanation, text, sizeof(text));
}

/* From a minute, doubling, to what a useless answer waits. */
static apr_interval_time_t grow(int failures)
{
    apr_interval_time_t wait = MANAGER_RENEWAL_INFO_MIN;

    while (--failures > 0 && wait < MANAGER_RENEWAL_INFO_DEFAULT) {
        wait *= 2;
    }
    return earlier_of(wait, MANAGER_RENEWAL_INFO_DEFAULT);
}

static void note_failure(manager_ledger_t *ledger, const base_error_t *err, const acme_client_config_t *ca,
                         const char *name, apr_time_t now, apr_uint32_t random)
{
    apr_interval_time_t wait = wait_until(err->retry_at, now);
    char next[32];

    if (err->kind == BASE_ERROR_CANCELLED) {
        return;
    }
    if (err->kind == BASE_ERROR_CA_DOWN) {
        ledger->info_failures += ledger->info_failures < FAILURES_MAX;
        wait = grow(ledger->info_failures);
    }
    else {
        ledger->info_failures = 0;
    }
    ask_again(ledger, wait, now, random);
    if (err->kind != BASE_ERROR_NONE) {
        base_log(BASE_LOG_INFO, "AC0182", name, "CA %s does not say when to renew: %s; it is asked again %s, "
                 "and the lifetime decides meanwhile", ca->name, err->detail,
                 base_log_moment(next, apr_time_sec(ledger->info_next), apr_time_sec(now)));
    }
}

void manager_renewal_ask(manager_ledger_t *ledger, acme_client_t *client, const manager_policy_name_t *name,
                         const crypto_bundle_t *bundle, apr_time_t now, apr_uint32_t random,
                         apr_pool_t *pool)
{
    const acme_client_config_t *ca = acme_client_config(client);
    const char *id = crypto_cert_renewal_id(bundle->leaf, pool);
    char fingerprint[CRYPTO_BUNDLE_FINGERPRINT_SIZE];
    acme_renewal_info_t info = { 0 };
    base_error_t err;
    apr_status_t rv;
    int known;

    base_error_clear(&err);
    turn_to(ledger, crypto_bundle_fingerprint(bundle, fingerprint), ca);
    if (id) {
        rv = acme_renewal_info_fetch(&info, client, id, pool, &err);
    }
    else {
        rv = base_error_set(&err, BASE_ERROR_OPERATOR, APR_EGENERAL, "the certificate does not say whose key "
                            "signed it");
    }
    if (rv != APR_SUCCESS) {
        note_failure(ledger, &err, ca, name->name, now, random);
        return;
    }
    known = ledger->window_start > 0;
    if (manager_renewal_note_window(ledger, &info, now, random) && known) {
        tell_window(ledger, ca, name->name, now);
    }
    show_explanation(ledger, info.explanation, ca, name->name);
}
