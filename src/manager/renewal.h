/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file manager/renewal.h
 * When a certificate is renewed: by its lifetime (manager_policy_renew_at()) or by the CA's renewal
 * information (RFC 9773), whichever is earlier. What the CA said is kept in the ledger.
 */
#ifndef MANAGER_RENEWAL_H
#define MANAGER_RENEWAL_H

#include <apr_pools.h>
#include <apr_time.h>

#include "acme/client.h"
#include "acme/renewal_info.h"
#include "crypto/bundle.h"
#include "manager/ledger.h"
#include "manager/policy.h"

#define MANAGER_RENEWAL_INFO_MIN apr_time_from_sec(60)          /* between two questions */
#define MANAGER_RENEWAL_INFO_MAX apr_time_from_sec(24 * 3600)
#define MANAGER_RENEWAL_INFO_DEFAULT apr_time_from_sec(6 * 3600)    /* no Retry-After; an answer of no use */
#define MANAGER_RENEWAL_AGE_MIN apr_time_from_sec(3600)         /* see manager_renewal_least_age() */

/** What is to be done for a certificate, and when. */
typedef struct manager_renewal_plan_t {
    apr_time_t due;             /* renew */
    apr_time_t ask;             /* ask the CA for its renewal information; 0: never */
    int by_window;              /* the CA's window makes it due, not its lifetime */
} manager_renewal_plan_t;

/** How old a certificate has to be before a window may have it replaced: an hour, four times as long for each
 * hasty issuance before it. A CA whose windows are always past causes no storm: five orders in the first
 * week, as many as Let's Encrypt grants a name. */
apr_interval_time_t manager_renewal_least_age(int hasty);

/**
 * The plan for a certificate that is there: the earlier of the lifetime rule and the chosen instant of the
 * window. A window counts when the certificate has the least age, at most a tenth of its lifetime. The
 * lifetime rule, too, leaves a certificate alone that was stored less than a tenth of its lifetime (at most
 * an hour) ago, as long as it is good for longer than that: a CA may back-date. The window and `issued` count
 * only when ledger->certificate is this one. Never blocks; any thread.
 * @param asks non-zero when the CA that issued is configured and its renewal information is wanted
 */
void manager_renewal_plan(manager_renewal_plan_t *plan, const manager_policy_name_t *name,
                          const crypto_bundle_t *bundle, const manager_ledger_t *ledger, int asks,
                          apr_time_t now);

/**
 * Ask the CA that issued, and note the answer in the ledger (not stored here). A failure is noted too, and is
 * no error of anybody, as the lifetime rule stands: the next question is after 6 h; after a minute,
 * doubled each time up to 6 h, when the CA did not answer; as Retry-After says after a 429. Logs
 * AC0180 when the CA moved the window, AC0181 when it has an explanation that was not shown yet, AC0182
 * (info) when it could not be asked. Blocks on the network; worker threads.
 * @param random 32 random bits, for the instant in the window
 */
void manager_renewal_ask(manager_ledger_t *ledger, acme_client_t *client, const manager_policy_name_t *name,
                         const crypto_bundle_t *bundle, apr_time_t now, apr_uint32_t random,
                         apr_pool_t *pool);

/**
 * The part of it without network: note a window. The instant is chosen uniformly in [start, end) when the
 * window is a new one (start or end differ), and stays else. Next question: retry_at, at least a
 * minute and at most a day from now, 6 h without one, each up to 5 % later.
 * @return non-zero when the window is a new one
 */
int manager_renewal_note_window(manager_ledger_t *ledger, const acme_renewal_info_t *info, apr_time_t now,
                                apr_uint32_t random);

#endif
