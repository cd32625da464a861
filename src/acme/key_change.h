/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file acme/key_change.h
 * Another key for the account (RFC 8555 section 7.3.5), and what an unfinished change has left in the
 * cache. For the files of the account alone. One thread for each work.
 */
#ifndef ACME_KEY_CHANGE_H
#define ACME_KEY_CHANGE_H

#include "acme/account_work.h"

/** Non-zero when a change was begun and not seen to end; never with account=. One look at the cache. */
int acme_key_change_is_pending(const acme_account_work_t *work);

/**
 * Under the lock, with key and record read: find out from the CA which of the two keys it has, and end the
 * change by that; blocks. The pending key is given up only when the CA is seen to take the other one, or to
 * have lost the account; then, or without one that can be read, all stays as it is. Errors: what the CA
 * says, or that it did not answer; LOCAL.
 */
apr_status_t acme_key_change_settle(acme_account_work_t *work);

/** acme_account_roll_key() without memory: takes the lock, reads all anew, blocks. Key, URL and thumbprint
 * of the work are the account's afterwards. */
apr_status_t acme_key_change_roll(acme_account_work_t *work);

#endif
