/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file base/hostname.h
 * Which strings are names that a certificate can be for. Pure functions, any
 * thread, no allocation unless a pool is passed. conformance.md section 1.1.
 */
#ifndef BASE_HOSTNAME_H
#define BASE_HOSTNAME_H

#include <apr_pools.h>

#define BASE_HOSTNAME_MAX 253               /* octets of a name without the last dot (RFC 1035) */
#define BASE_HOSTNAME_SIZE (BASE_HOSTNAME_MAX + 1)

/**
 * Bring what a client sent (SNI, Host) into the one spelling used everywhere:
 * lower case, one trailing dot removed. Only LDH labels of 1 to 63 octets, at
 * least two of them, no hyphen at either end of a label, "--" in third place
 * only as "xn--", not an IPv4 address (no all-numeric last label).
 * @param name need not end with a NUL
 * @param out receives the name and a NUL
 * @return non-zero when it is such a name; out is untouched otherwise
 */
int base_hostname_from_client(char out[BASE_HOSTNAME_SIZE], const char *name, size_t len);

/**
 * The same for what an administrator wrote: U-labels too (UTS 46
 * non-transitional by libidn2, STD3 rules by us).
 * @param out set to the A-label form, in the pool
 * @return NULL, or why not, as the end of a sentence: "is an IP address",
 *         "has a character that host names cannot have", "has no dot",
 *         "is a wildcard", "has a label longer than 63 octets", ...
 */
const char *base_hostname_from_config(const char **out, const char *name, apr_pool_t *pool);

/** The reserved suffix (RFC 6761, 6762, 7686, 9476 and the like) that a name
 * stands under and for which no public CA can issue: "local", "internal", ...;
 * NULL when there is none. Test and documentation names (test, example) are
 * not in the list: private CAs serve them. @param name as made above */
const char *base_hostname_special_use(const char *name);

/**
 * Non-zero when a name looks like one that a crawler or scanner made up from others: before its last
 * two labels the same label stands twice in a row ("www.www.example.org"), or three labels in a row are
 * usual host prefixes ("api.dev.mail.example.org"). CAs refuse to be asked for such names
 * on demand (acme-reference.md section 1.6). @param name as made above
 */
int base_hostname_is_made_up(const char *name);

/**
 * The part of a name under which its owner can make as many names as he likes: the last two labels,
 * or three (if there are so many) where the last is a country (two letters) and the one before it has
 * at most three characters ("co.uk", "com.au"). A rule of thumb for limits, without the
 * Public Suffix List. @return a pointer into name
 */
const char *base_hostname_owner(const char *name);

/** FNV-1a of a name: the one hash used for shared memory slots. Never 0. */
unsigned int base_hostname_hash(const char *name);

#endif
