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
#define MANAGER_RENEWAL_INFO_DEFAULT apr_time_from_sec(6 * 3600)    /* without Retry-After */
#define MANAGER_RENEWAL_AGE_MIN apr_time_from_sec(3600)         /* of a certificate that a window may have
                                                                 * replaced; at most a tenth of its life */
#define MANAGER_RENEWAL_AGE_GROWTH 4    /* by each hasty issuance before it; at most to a fifth of its life */

/** What is to be done for a certificate, and when. */
typedef struct manager_renewal_plan_t {
    apr_time_t due;             /* renew */
    apr_time_t ask;             /* ask the CA for its renewal information; 0: never */
    int by_window;              /* the CA's window makes it due, not its lifetime */
} manager_renewal_plan_t;

/**
 * The plan for a certificate that is there. The earlier of lifetime rule and chosen instant of the
 * window; a window that is past or just about to be counts only when the certificate is old enough: an
 * hour, at most a tenth of its lifetime, and four times as much for each hasty issuance before it
 * (ledger->hasty), at most a fifth. So a CA whose windows are always past is asked for no more than 5
 * certificates of one name in the first week (those of a month or more), the usual limit. The lifetime
 * rule, too, never makes a certificate due that was stored less than a tenth of its lifetime (at most an
 * hour) ago, as long as it is good for longer than that: a CA may back-date. The window and `issued`
 * count only when ledger->certificate is this one.
 * @param asks non-zero when the CA that issued is configured and its renewal information is wanted;
 * without
 *        it a window that is known does not count
 * Never blocks; any thread.
 */
void manager_renewal_plan(manager_renewal_plan_t *plan, const manager_policy_name_t *name,
                          const crypto_bundle_t *bundle, const manager_ledger_t *ledger, int asks,
                          apr_time_t now);

/**
 * Ask the CA that issued, and note the answer in the ledger (not stored here). A failure is noted too
 * (next question after 6 h or when the CA says; with growing waits from a minute up to that when the CA
 * did not answer) and is no error of anybody: the lifetime rule stands. A ledger about another
 * certificate turns to this one, issued by the client's CA. Logs AC0180 when the CA moved the window,
 * AC0181 when it has an explanation that was not shown yet, AC0182 (info) when it could not be asked; a
 * directory without renewalInfo is not worth a line. Notes nothing when asked to stop. Blocks on the
 * network; worker threads.
 * @param random 32 random bits, for the instant in the window
 */
void manager_renewal_ask(manager_ledger_t *ledger, acme_client_t *client, const manager_policy_name_t *name,
                         const crypto_bundle_t *bundle, apr_time_t now, apr_uint32_t random,
                         apr_pool_t *pool);

/**
 * The part of it without network: note a window. The instant is chosen uniformly in [start, end) when the
 * window is a new one (start or end differ), and stays else. Next question: retry_at, at least a
 * minute and at most a day from now, 6 h without one, each up to 5 % later (manager_renewal_plan() wants none
 * after the certificate has ended).
 * @return non-zero when the window is a new one
 */
int manager_renewal_note_window(manager_ledger_t *ledger, const acme_renewal_info_t *info, apr_time_t now,
                                apr_uint32_t random);

#endif
