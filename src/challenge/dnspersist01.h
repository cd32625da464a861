/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file challenge/dnspersist01.h
 * dns-persist-01 (draft-ietf-acme-dns-persist, young): one standing TXT record "_validation-persist.NAME"
 * that names the CA and the account. Nothing is published: publish() looks for the record and fails with
 * the exact one to set when the authoritative servers say that there is none (and logs it, AC0244); when they
 * cannot be asked, the CA is.
 */
#ifndef CHALLENGE_DNSPERSIST01_H
#define CHALLENGE_DNSPERSIST01_H

#include "challenge/challenge.h"

#define CHALLENGE_DNSPERSIST01_TYPE "dns-persist-01"
#define CHALLENGE_DNSPERSIST01_LABEL "_validation-persist."

extern const challenge_kind_t challenge_dnspersist01;

/** The record to set, in zone file notation: NAME. IN TXT "ISSUER; accounturi=URI[; policy=wildcard]". In the
 * pool; any thread, nothing blocks. @param name identifier, a wildcard gets the policy */
const char *challenge_dnspersist01_record(const char *name, const char *issuer, const char *account_uri,
                                          apr_pool_t *pool);

/** Non-zero when a record's value (its character strings joined) lets the account have a certificate of
 * one of the issuers for the name now. Unknown parameters are ignored; a known one twice makes it invalid. */
int challenge_dnspersist01_allows(const char *value, const char *name, const apr_array_header_t *issuers,
                                  const char *account_uri, apr_time_t now);

#endif
