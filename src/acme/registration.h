/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file acme/registration.h
 * The account as the CA has it (RFC 8555 section 7.3): found, made, its terms and its contact. For the
 * files of the account alone. Asks the CA, so it blocks (but where said); one thread for each work. The
 * work has the directory, and all but check_terms() a key.
 */
#ifndef ACME_REGISTRATION_H
#define ACME_REGISTRATION_H

#include "acme/account_work.h"

/**
 * OPERATOR, with the words of what to write, when the terms of the CA are not agreed to; asks nothing. An
 * account (work->url) that agreed once is not shut out when the CA publishes new terms: that is a warning,
 * as long as the configuration has any word of agreement.
 */
apr_status_t acme_registration_check_terms(acme_account_work_t *work);

/**
 * Under the lock: whether the key has an account, which is made by no means. Fills in url and email, and
 * stores the record. OPERATOR for an account that the CA has closed.
 * @return APR_NOTFOUND, err set, without one
 */
apr_status_t acme_registration_find(acme_account_work_t *work);

/**
 * Under the lock: make the account; as find() if the key has one. A CA that takes only RSA keys gets one
 * instead of a key that was never an account. OPERATOR, with the words of what to do, where the CA wants an
 * external account binding or does not take the one that is configured.
 */
apr_status_t acme_registration_create(acme_account_work_t *work);

/** Non-zero when the CA has the contact that is configured, by our record; asks nothing. */
int acme_registration_is_contact_told(const acme_account_work_t *work);

/** Under the lock, with a URL: tell the CA the contact that is configured now, and store the record.
 * Failing to is logged and no error: it must not stop orders. */
void acme_registration_update_contact(acme_account_work_t *work);

#endif
