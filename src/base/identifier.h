/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file base/identifier.h
 * What a certificate can be for: a DNS name ("www.example.org"), a wildcard ("*.example.org") or an IP
 * address ("192.0.2.1", "2001:db8::1"; RFC 8738). One spelling of each is used everywhere: A-labels in
 * lower case without a last dot, IPv6 as RFC 5952 has it, without brackets. Pure functions, any thread,
 * nothing blocks, no allocation unless a pool is passed.
 */
#ifndef BASE_IDENTIFIER_H
#define BASE_IDENTIFIER_H

#include <apr_pools.h>

#include "base/hostname.h"

/** Bits, so that a kind of challenge can say which of them it proves. */
typedef enum {
    BASE_IDENTIFIER_DNS = 1,
    BASE_IDENTIFIER_WILDCARD = 2,
    BASE_IDENTIFIER_IP = 4
} base_identifier_kind_t;

#define BASE_IDENTIFIER_STEM_SIZE (BASE_HOSTNAME_SIZE + 16)     /* bytes with the NUL */
#define BASE_IDENTIFIER_UNICODE_SIZE (4 * BASE_HOSTNAME_SIZE)   /* of a name in UTF-8 */

/** Which of them it is. @param name in its one spelling */
base_identifier_kind_t base_identifier_kind(const char *name);

/**
 * Read what an administrator wrote: a name with U-labels or A-labels, "*." before one, an address, IPv6 with
 * or without brackets. An IPv4-mapped IPv6 address is the IPv4 one.
 * @param out set to the one spelling, in the pool
 * @return NULL, or why not, as the end of a sentence (see base_hostname_from_config()); a "*" anywhere
 *         but as the whole first label is "has a \"*\" that is not the whole first label"
 */
const char *base_identifier_from_config(const char **out, const char *text, apr_pool_t *pool);

/** The name that is proven: "example.org" of "*.example.org", else all of it. @return a pointer into name */
const char *base_identifier_base(const char *name);

/** The wildcard that covers a DNS name: "*.example.org" of "www.example.org". @return out, or NULL when there
 * can be none: fewer than three labels, no DNS name, or too long */
const char *base_identifier_wildcard_of(char out[BASE_HOSTNAME_SIZE], const char *name);

/** The bytes of an address, in any spelling, in network order; of an IPv4-mapped IPv6 one those of the IPv4
 * one. @return how many: 4 or 16; 0 when name is none */
int base_identifier_address(const char *name, unsigned char address[16]);

/** The spelling of an address of 4 or 16 bytes; an IPv4-mapped IPv6 one becomes IPv4. @return out */
const char *base_identifier_from_address(char out[BASE_HOSTNAME_SIZE], const unsigned char *address, int len);

/** The name that stands for an address in SNI (RFC 8738 section 6): "1.2.0.192.in-addr.arpa", or 32 nibbles
 * and "ip6.arpa". @return out, or NULL when name is no address */
const char *base_identifier_reverse(char out[BASE_HOSTNAME_SIZE], const char *name);

/** The address that such a name, in lower case, stands for; only complete ones. @return out or NULL */
const char *base_identifier_from_reverse(char out[BASE_HOSTNAME_SIZE], const char *name);

/** Non-zero when both mean the same, however a CA spells it: letter case, a last dot, other forms of IPv6. */
int base_identifier_is_same(const char *a, const char *b);

/** Non-zero for an address for which no public CA issues: private, loopback, link-local, unique local,
 * documentation, multicast, unspecified, shared (RFC 6598), benchmarking and the like (RFC 6890). */
int base_identifier_is_private_address(const char *name);

/**
 * The part of cache keys that stands for a name: what file names can hold, and what Go's autocert never
 * uses for another name. "example.org", "192.0.2.1": as they are; "*.example.org":
 * "example.org+wildcard"; "2001:db8::1": "ip6-2001-db8--1". @return out
 */
const char *base_identifier_stem(char out[BASE_IDENTIFIER_STEM_SIZE], const char *name);

/** The name that a stem of len bytes stands for, in its one spelling. @return out, or NULL when it is no stem
 * as the function above makes them */
const char *base_identifier_from_stem(char out[BASE_HOSTNAME_SIZE], const char *stem, size_t len);

/** The name with U-labels, for people. @return out, or NULL when that is no different or cannot be made */
const char *base_identifier_unicode(char out[BASE_IDENTIFIER_UNICODE_SIZE], const char *name);

#endif
