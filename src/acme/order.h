/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file acme/order.h
 * Orders (RFC 8555 sections 7.1.3, 7.1.6, 7.4); see acme/authorization.h for what stands in between.
 * Each function is one step of the conversation, blocking, for one thread; everything
 * returned is in the pool passed. manager/order.c tells the story they make together.
 */
#ifndef ACME_ORDER_H
#define ACME_ORDER_H

#include <apr_pools.h>
#include <apr_tables.h>
#include <apr_time.h>

#include "acme/account.h"
#include "acme/object.h"
#include "base/error.h"

#define ACME_ORDER_READY_DEADLINE apr_time_from_sec(120)       /* polling, see acme/poll.h */
#define ACME_ORDER_FINALIZE_DEADLINE apr_time_from_sec(300)
#define ACME_ORDER_AUTHORIZATIONS_MAX 10
#define ACME_ORDER_ALTERNATES_MAX 8     /* chains besides the default one */

typedef struct acme_order_t {
    const char *url;            /* as told by newOrder; later answers need not repeat it */
    const char *name;           /* value of the first identifier, NULL when not told */
    acme_object_status_t status;
    const char *finalize;
    const char *certificate;    /* NULL until valid */
    apr_array_header_t *authorizations;     /* of const char * */
    apr_time_t expires;         /* 0 when not given */
    apr_time_t retry_at;        /* from the answer it was read from, 0 without one */
    base_error_t problem;       /* of an invalid order */
} acme_order_t;

/** What to order. */
typedef struct acme_order_request_t {
    const char *name;           /* one identifier, see base/identifier.h */
    const char *replaces;       /* id of the certificate it replaces (RFC 9773 section 5), from the same
                                 * CA and account; NULL: none. Sent only to a CA with renewalInfo */
} acme_order_request_t;

/**
 * Place an order (RFC 8555 section 7.4; addresses: RFC 8738). The profile of the CA's configuration is sent
 * when the directory has it, for an address "shortlived" when the directory has that (CAs issue for addresses
 * with it only); else, and when the CA will not have it (invalidProfile, unauthorized), the order goes
 * without one, with a warning (AC0230). Whatever the CA has against an order with `replaces`
 * (alreadyReplaced, conflict, any 4xx but a rate limit or a lost account, 500), the order goes again
 * without, once.
 */
apr_status_t acme_order_create(acme_order_t **order, acme_account_t *account,
                               const acme_order_request_t *request, apr_pool_t *pool, base_error_t *err);

/** An order from an answer of the CA, whose pointers it shares; does not block. CA_DOWN when it is no order.
 * @param url of the order: answers need not repeat it */
apr_status_t acme_order_parse(acme_order_t **order, const acme_client_answer_t *answer,
                              const char *url, apr_pool_t *pool, base_error_t *err);

/** Read an order again by its URL; GONE when the CA does not know it. */
apr_status_t acme_order_fetch(acme_order_t **order, acme_account_t *account, const char *url,
                              apr_pool_t *pool, base_error_t *err);

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
