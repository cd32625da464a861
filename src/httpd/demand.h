/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file httpd/demand.h
 * A handshake that finds no certificate: whether one is wished for, on which client's account, and how long
 * the handshake waits for it. Threads of the MPM; no lock, no file, no network; the one thing here
 * that blocks is httpd_demand_wait(), within AutocertWait.
 */
#ifndef HTTPD_DEMAND_H
#define HTTPD_DEMAND_H

#include <httpd.h>

#include "manager/policy.h"
#include "shared/requests.h"

/** What is known of a wish for a name; a few atomic reads. */
shared_requests_answer_t httpd_demand_known(const manager_policy_name_t *name, apr_time_t now);

/**
 * Wish for a certificate unless that was done already. What no configuration lists is counted against the
 * client's network (AutocertClientLimit) when it is new; a refusal is logged, at most once a second
 * (AC0340, AC0341).
 * @return non-zero when it is pending now, so that waiting may help
 */
int httpd_demand_wish(conn_rec *c, const manager_policy_name_t *name, apr_time_t now);

/** Wish for a certificate that is served from memory only, for nobody in particular: it is obtained
 * again before it is needed. */
void httpd_demand_restore(const manager_policy_name_t *name, apr_time_t now);

/**
 * Wait until the certificate of a name changed, the wish was answered, the client has gone, or the time is
 * over; not at all when too many wait (AutocertWait's N; half of this child's threads). Goes on through a
 * graceful restart of the server.
 * @param version of the name, read before its certificate was looked for
 * @return non-zero when it is worth looking for the certificate again
 */
int httpd_demand_wait(conn_rec *c, const server_rec *s, const manager_policy_name_t *name,
                      apr_uint32_t version);

#endif
