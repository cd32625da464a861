/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file acme/order.h
 * Orders, authorizations and challenges (RFC 8555 sections 7.1.3 to 7.1.6, 7.4, 7.5).
 * Each function is one step of the conversation, blocking, for one thread; everything
 * returned is in the pool passed. manager/order.c tells the story they make together.
 */
#ifndef ACME_ORDER_H
#define ACME_ORDER_H

#include <apr_pools.h>
#include <apr_tables.h>
#include <apr_time.h>

#include "acme/account.h"
#include "base/error.h"

/** Polling: the first look comes soon, the steps grow;
 * a Retry-After in the future replaces the step, clamped to RETRY_AFTER_MAX and to what is
 * left to the deadline. A CA that is down is tolerated until the deadline. */
#define ACME_ORDER_POLL_FIRST apr_time_from_msec(50)
#define ACME_ORDER_POLL_GROWTH 2.0
#define ACME_ORDER_POLL_MAX apr_time_from_sec(10)
#define ACME_ORDER_RETRY_AFTER_MAX apr_time_from_sec(60)
#define ACME_ORDER_AUTHORIZATION_DEADLINE apr_time_from_sec(120)
#define ACME_ORDER_FINALIZE_DEADLINE apr_time_from_sec(300)
#define ACME_ORDER_AUTHORIZATIONS_MAX 10
#define ACME_ORDER_CHALLENGES_MAX 20
#define ACME_ORDER_PAGES_MAX 20         /* of an account's list of orders */
#define ACME_ORDER_FOUND_MAX 20         /* orders of that list that are looked at */
#define ACME_ORDER_ALTERNATES_MAX 8     /* chains besides the default one */
#define ACME_ORDER_TOKEN_MIN 22         /* base64url letters */
#define ACME_ORDER_TOKEN_MAX 256

typedef enum {
    ACME_ORDER_PENDING,
    ACME_ORDER_READY,
    ACME_ORDER_PROCESSING,
    ACME_ORDER_VALID,
    ACME_ORDER_INVALID          /* also deactivated, expired, revoked (authorizations) */
} acme_order_status_t;

typedef struct acme_order_t {
    const char *url;            /* as told by newOrder; later answers need not repeat it */
    const char *name;           /* value of the first identifier, NULL when not told */
    acme_order_status_t status;
    const char *finalize;
    const char *certificate;    /* NULL until valid */
    apr_array_header_t *authorizations;     /* of const char * */
    apr_time_t expires;         /* 0 when not given */
    apr_time_t retry_at;        /* from the answer it was read from, 0 without one */
    base_error_t problem;       /* of an invalid order */
} acme_order_t;

typedef struct acme_order_challenge_t {
    const char *type;
    const char *url;
    const char *token;          /* checked as base64url; NULL for types without one */
    acme_order_status_t status;
    base_error_t problem;       /* kind NONE unless the CA reported one */
} acme_order_challenge_t;

typedef struct acme_order_authorization_t {
    const char *url;
    const char *identifier;     /* value, lower case */
    int wildcard;
    acme_order_status_t status; /* READY is never used here */
    apr_array_header_t *challenges;         /* of acme_order_challenge_t */
    apr_time_t retry_at;
} acme_order_authorization_t;

/** What to order. */
typedef struct acme_order_request_t {
    const char *name;           /* one DNS name, A-label */
    const char *replaces;       /* id of the certificate it replaces (RFC 9773 section 5), from the same
                                 * CA and account; NULL: none. Sent only to a CA with renewalInfo */
} acme_order_request_t;

/**
 * Place an order (RFC 8555 section 7.4). The profile of the CA's configuration is sent when the directory
 * has it; else, and when the CA will not have it (invalidProfile, unauthorized), the order goes without one,
 * with a warning (AC0230). Whatever the CA has against an order with `replaces` (alreadyReplaced,
 * conflict, any 4xx but a rate limit or a lost account, 500), the order goes again without, once.
 */
apr_status_t acme_order_create(acme_order_t **order, acme_account_t *account,
                               const acme_order_request_t *request, apr_pool_t *pool, base_error_t *err);

/**
 * Find an order that was placed but whose URL nobody could note (killed between the answer and the
 * disk): the latest one in the account's list of orders (RFC 8555 section 7.1.2.1) for exactly this name
 * that is pending or ready, and expires after `since` (when it was placed). CAs without such a list have
 * none; they give out the same pending order again when it is ordered anew. Bounded: PAGES_MAX pages, of
 * which the last FOUND_MAX orders are looked at, last first.
 * @return APR_NOTFOUND without one; an error only when the CA does not answer
 */
apr_status_t acme_order_find(acme_order_t **order, acme_account_t *account, const char *name,
                             apr_time_t since, apr_pool_t *pool, base_error_t *err);

/** Read an order again by its URL; GONE when the CA does not know it. */
apr_status_t acme_order_fetch(acme_order_t **order, acme_account_t *account, const char *url,
                              apr_pool_t *pool, base_error_t *err);

/** Read an authorization. */
apr_status_t acme_order_authorization(acme_order_authorization_t **authorization,
                                      acme_account_t *account, const char *url,
                                      apr_pool_t *pool, base_error_t *err);

/** The offered challenge of a type with a usable token, or NULL. */
const acme_order_challenge_t *acme_order_challenge_find(
    const acme_order_authorization_t *authorization, const char *type);

/** Tell the CA that the challenge can be validated now (POST {}). */
apr_status_t acme_order_challenge_accept(acme_account_t *account, const char *url,
                                         apr_pool_t *pool, base_error_t *err);

/**
 * Poll until the authorization is valid. VALIDATION with the CA's words when it or
 * the challenge became invalid (some CAs leave the authorization pending for
 * ever: the challenge is looked at too) or the deadline passed.
 */
apr_status_t acme_order_authorization_wait(acme_account_t *account, const char *url,
                                           const char *challenge_type, apr_pool_t *pool,
                                           base_error_t *err);

/** Give an authorization up (RFC 8555 section 7.5.2); best effort, errors are ignored. */
void acme_order_authorization_deactivate(acme_account_t *account, const char *url,
                                         apr_pool_t *pool);

/** Poll while the order is pending (all authorizations are valid already), until ready or
 * further. VALIDATION when it became invalid. *order is replaced by its last state. */
apr_status_t acme_order_wait_ready(acme_order_t **order, acme_account_t *account,
                                   apr_pool_t *pool, base_error_t *err);

/**
 * Finalize a ready order and poll until it is valid; a processing order is only
 * polled. orderNotReady and a lost connection make it read the order again and go on
 * from there, never a blind second finalize. *order is replaced by its last state.
 */
apr_status_t acme_order_finalize(acme_order_t **order, acme_account_t *account,
                                 const unsigned char *csr, apr_size_t csr_len,
                                 apr_pool_t *pool, base_error_t *err);

/** Download the chain of a valid order: PEM text as the CA sent it, unchecked. When the CA's configuration
 * names a chain, that of the CA's alternates (Link rel="alternate") one of whose certificates was issued by
 * such a CN; without one the default, with a warning (AC0231). */
apr_status_t acme_order_certificate(char **pem, apr_size_t *len, const acme_order_t *order,
                                    acme_account_t *account, apr_pool_t *pool,
                                    base_error_t *err);

#endif
