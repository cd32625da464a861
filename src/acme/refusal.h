/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file acme/refusal.h
 * What a CA's refusal says about our account and its key, and words for what to do about it. For the files
 * of the account alone. Nothing here blocks; any thread.
 */
#ifndef ACME_REFUSAL_H
#define ACME_REFUSAL_H

#include "acme/client.h"
#include "base/error.h"

/** Non-zero when the CA had a look at the request and said no. */
int acme_refusal_is_no(const base_error_t *err);

/** Non-zero for answers that a request gets when its key is not the account's. */
int acme_refusal_is_of_key(const base_error_t *err);

/** Non-zero when the CA's words say that the account is closed: it is not about this request. */
int acme_refusal_mentions_dead(const base_error_t *err);

/** Non-zero when the CA cannot read the signatures of our usual keys, but those of RSA ones.
 * @param answer that came with err; empty without one */
int acme_refusal_wants_rsa(const base_error_t *err, const acme_client_answer_t *answer);

/** Other words for a failure that otherwise stays what it is; what does not fit is cut. */
void acme_refusal_reword(base_error_t *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** The words, after those of the CA, for what a human can only get out of by another account; OPERATOR.
 * @param key_name the file of the account key in the cache
 * @param url of the account, NULL when not known */
void acme_refusal_reword_as_dead(base_error_t *err, const acme_client_config_t *config, const char *key_name,
                                 const char *url);

#endif
