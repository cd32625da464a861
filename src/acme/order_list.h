/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file acme/order_list.h
 * The list of orders that an account has at its CA (RFC 8555 section 7.1.2.1). Blocking, for one thread;
 * what is returned is in the pool passed.
 */
#ifndef ACME_ORDER_LIST_H
#define ACME_ORDER_LIST_H

#include <apr_pools.h>
#include <apr_time.h>

#include "acme/account.h"
#include "acme/order.h"
#include "base/error.h"

#define ACME_ORDER_LIST_PAGES_MAX 20    /* of the list */
#define ACME_ORDER_LIST_FOUND_MAX 20    /* orders of the list that are looked at */

/**
 * Find an order that was placed but whose URL nobody could note (killed between the answer and the
 * disk): the latest one in the account's list of orders (RFC 8555 section 7.1.2.1) for exactly this name
 * that is pending or ready, and expires after `since` (when it was placed). CAs without such a list have
 * none; they give out the same pending order again when it is ordered anew. Bounded: PAGES_MAX pages, of
 * which the last FOUND_MAX orders are looked at, last first.
 * @return APR_NOTFOUND without one; an error only when the CA does not answer
 */
apr_status_t acme_order_list_find(acme_order_t **order, acme_account_t *account, const char *name,
                                  apr_time_t since, apr_pool_t *pool, base_error_t *err);

#endif
