/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file challenge/self_check.h
 * This server looks at its own answer to a challenge, through its own listeners, before the CA does: what
 * http01 and tlsalpn01 call as their check(). What is wrong is logged in words that help (AC0240 http-01,
 * AC0241 tls-alpn-01); one listener that answers is enough, since ports may be mapped. Blocks within
 * CHALLENGE_SELF_CHECK_MAX.
 */
#ifndef CHALLENGE_SELF_CHECK_H
#define CHALLENGE_SELF_CHECK_H

#include "challenge/challenge.h"

#define CHALLENGE_SELF_CHECK_MAX apr_time_from_sec(5)
#define CHALLENGE_SELF_CHECK_LISTENERS_MAX 4    /* that are asked: those on the well-known port first */

/** GET http://NAME/.well-known/acme-challenge/TOKEN at the listeners without TLS; redirects are followed
 * as the CA would. */
apr_status_t challenge_self_check_http(const challenge_task_t *task, apr_pool_t *pool, base_error_t *err);

/** A handshake with ALPN acme-tls/1 and the name (or its reverse form) as SNI at the listeners with TLS;
 * looks at the certificate (RFC 8737 section 3). */
apr_status_t challenge_self_check_tls(const challenge_task_t *task, apr_pool_t *pool, base_error_t *err);

#endif
