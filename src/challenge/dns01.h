/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file challenge/dns01.h
 * dns-01 (RFC 8555 section 8.4): a TXT record "_acme-challenge.NAME" with base64url of the SHA-256 of the key
 * authorization, set by challenge/dns_command. check() looks for it at all authoritative servers
 * of its zone until they have it, for task->dns->wait at most (AC0254 when it goes on without).
 */
#ifndef CHALLENGE_DNS01_H
#define CHALLENGE_DNS01_H

#include "challenge/challenge.h"

#define CHALLENGE_DNS01_TYPE "dns-01"
#define CHALLENGE_DNS01_LABEL "_acme-challenge."
#define CHALLENGE_DNS01_WAIT apr_time_from_sec(120)     /* default of challenge_dns_t.wait */

extern const challenge_kind_t challenge_dns01;

#endif
