/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "manager/renewal.h"

#include <string.h>

#include <apr_strings.h>

#include "base/log.h"
#include "crypto/cert.h"

#define AGE_SHIFT 2                 /* the least age becomes four times as long each time */
#define AGE_STEPS_MAX 8
#define LIFETIME_PART 10            /* no age that is asked for is more than this part of a lifetime */
#define FAILURES_SHIFT_MAX 16
#define JITTER_DIVISOR 20           /* 5 % */
#define RANDOM_RANGE 4294967296.0   /* of 32 bits */

apr_interval_time_t manager_renewal_least_age(int hasty)
{
    return MANAGER_RENEWAL_AGE_MIN << AGE_SHIFT * (hasty < AGE_STEPS_MAX ? hasty : AGE_STEPS_MAX);
}

static apr_interval_time_t at_most(apr_interval_time_t value, apr_interval_time_t max)
{
    return value < max ? value : max;
}

/* Not before the certificate is so old, if that is before its end. */
static apr_time_t not_before_age(apr_time_t at, apr_time_t issued, apr_interval_time_t age, apr_time_t end)
{
    return at < issued + age && issued + age < end ? issued + age : at;
}

void manager_renewal_plan(manager_renewal_plan_t *plan, const manager_policy_name_t *name,
                          const crypto_bundle_t *bundle, const manager_ledger_t *ledger, int asks,
                          apr_time_t now)
{
    apr_interval_time_t part = (bundle->not_after - bundle->not_before) / LIFETIME_PART;
    char fingerprint[CRYPTO_BUNDLE_FINGERPRINT_SIZE];
    apr_time_t issued, window;

    memset(plan, 0, sizeof(*plan));
    plan->due = manager_policy_renew_at(name, bundle->not_before, bundle->not_after);
    if (strcmp(ledger->certificate, crypto_bundle_fingerprint(bundle, fingerprint)) != 0) {
        return;
    }
    issued = ledger->issued > 0 && ledger->issued <= now ? ledger->issued : bundle->not_before;
    plan->due = not_before_age(plan->due, issued, at_most(MANAGER_RENEWAL_AGE_MIN, part), bundle->not_after);
    if (ledger->window_start > 0) {
        window = not_before_age(ledger->window_chosen, issued,
                                at_most(manager_renewal_least_age(ledger->hasty), part), bundle->not_after);
        plan->by_window = window < plan->due;
        plan->due = plan->by_window ? window : plan->due;
    }
    if (asks && now < bundle->not_after && ledger->info_next < bundle->not_after) {
        plan->ask = ledger->info_next > 0 ? ledger->info_next : now;
    }
}

/* When the CA is asked again, a little later than that. */
static apr_time_t next_question(apr_interval_time_t wait, apr_time_t now, apr_uint32_t random)
{
    wait = at_most(wait, MANAGER_RENEWAL_INFO_MAX);
    wait = wait < MANAGER_RENEWAL_INFO_MIN ? MANAGER_RENEWAL_INFO_MIN : wait;
    return now + wait + (apr_time_t)((double)(wait / JITTER_DIVISOR) * random / RANDOM_RANGE);
}

int manager_renewal_note_window(manager_ledger_t *ledger, const acme_renewal_info_t *info, apr_time_t now,
                                apr_uint32_t random)
{
    /* The record is in whole seconds: so is what it is compared with. */
    apr_time_t start = apr_time_from_sec(apr_time_sec(info->start));
    apr_time_t end = apr_time_from_sec(apr_time_sec(info->end));
    apr_interval_time_t wait = info->retry_at > 0 ? info->retry_at - now : MANAGER_RENEWAL_INFO_DEFAULT;
    int is_new = ledger->window_start != start || ledger->window_end != end;

    if (is_new) {
        ledger->window_start = start;
        ledger->window_end = end;
        ledger->window_chosen = start + (apr_time_t)((double)(end - start) * random / RANDOM_RANGE);
    }
    ledger->info_failures = 0;
    /* Other bits than those that chose the instant. */
    ledger->info_next = next_question(wait, now, random * 2654435761u);
    return is_new;
}

static void report_window(const manager_ledger_t *ledger, const manager_policy_name_t *name, int moved,
                          apr_time_t now)
{
    char start[32], end[32], chosen[32];

    base_log(moved ? BASE_LOG_NOTICE : BASE_LOG_DEBUG, "AC0180", name->name,
             "the CA %s: renewal between %s and %s; about %s, if not earlier by its lifetime",
             moved ? "moved its window" : "has a window",
             base_log_moment(start, apr_time_sec(ledger->window_start), apr_time_sec(now)),
             base_log_moment(end, apr_time_sec(ledger->window_end), apr_time_sec(now)),
             base_log_moment(chosen, apr_time_sec(ledger->window_chosen), apr_time_sec(now)));
}

static void report_explanation(manager_ledger_t *ledger, const manager_policy_name_t *name,
                               const char *explanation)
{
    char text[MANAGER_LEDGER_EXPLANATION_MAX];

    base_error_copy_text(text, sizeof(text), explanation != NULL ? explanation : "");
    if (text[0] != '\0' && strcmp(text, ledger->explanation) != 0) {
        base_log(BASE_LOG_NOTICE, "AC0181", name->name, "why the CA wishes it to be renewed then: %s; it "
                 "will be", text);
    }
    apr_cpystrn(ledger->explanation, text, sizeof(ledger->explanation));
}

/* How long to wait after a question that brought no window. */
static apr_interval_time_t wait_after(manager_ledger_t *ledger, apr_status_t status, const base_error_t *err,
                                      apr_time_t now)
{
    int failures = ledger->info_failures;

    if (err->kind == BASE_ERROR_CA_DOWN) {
        ledger->info_failures++;
        return at_most(MANAGER_RENEWAL_INFO_MIN << (failures < FAILURES_SHIFT_MAX ? failures
                                                                            : FAILURES_SHIFT_MAX),
                       MANAGER_RENEWAL_INFO_DEFAULT);
    }
    ledger->info_failures = 0;
    if (status == APR_ENOTIMPL) {
        return MANAGER_RENEWAL_INFO_MAX;
    }
    return err->kind == BASE_ERROR_WAIT && err->retry_at > now ? err->retry_at - now
                                                            : MANAGER_RENEWAL_INFO_DEFAULT;
}

void manager_renewal_ask(manager_ledger_t *ledger, acme_client_t *client, const manager_policy_name_t *name,
                         const crypto_bundle_t *bundle, apr_time_t now, apr_uint32_t random,
                         apr_pool_t *pool)
{
    const char *id = crypto_cert_renewal_id(bundle->leaf, pool);
    int known = ledger->window_start > 0;
    acme_renewal_info_t info;
    apr_status_t status = APR_ENOTIMPL;
    char next[32];
    base_error_t err;

    base_error_clear(&err);
    if (id != NULL) {
        status = acme_renewal_info_fetch(&info, client, id, pool, &err);
    }
    if (status == APR_SUCCESS) {
        if (manager_renewal_note_window(ledger, &info, now, random)) {
            report_window(ledger, name, known, now);
        }
        report_explanation(ledger, name, info.explanation);
        return;
    }
    if (err.kind == BASE_ERROR_CANCELLED) {
        return;
    }
    ledger->info_next = next_question(wait_after(ledger, status, &err, now), now, random);
    if (err.kind != BASE_ERROR_NONE) {
        base_log(BASE_LOG_INFO, "AC0182", name->name, "no renewal information from CA %s: %s; renewed by its "
                 "lifetime, asked again %s", acme_client_config(client)->name, err.detail,
                 base_log_moment(next, apr_time_sec(ledger->info_next), apr_time_sec(now)));
    }
}
