/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "base/identifier.h"

#include <string.h>
#include <strings.h>

#include <apr_strings.h>
#include <arpa/inet.h>
#include <idn2.h>

#define STAR "*."
#define STAR_LEN (sizeof(STAR) - 1)
#define WILDCARD_SUFFIX "+wildcard"
#define IPV6_PREFIX "ip6-"
#define REVERSE_IPV4 ".in-addr.arpa"
#define REVERSE_IPV6 ".ip6.arpa"
#define NIBBLES 32                  /* of an IPv6 address */

static const unsigned char mapped_prefix[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

base_identifier_kind_t base_identifier_kind(const char *name)
{
    unsigned char address[16];

    if (strncmp(name, STAR, STAR_LEN) == 0)
        return BASE_IDENTIFIER_WILDCARD;
    return base_identifier_address(name, address) > 0 ? BASE_IDENTIFIER_IP : BASE_IDENTIFIER_DNS;
}

const char *base_identifier_base(const char *name)
{
    return strncmp(name, STAR, STAR_LEN) == 0 ? name + STAR_LEN : name;
}

/* --- Addresses --- */

int base_identifier_address(const char *name, unsigned char address[16])
{
    if (inet_pton(AF_INET, name, address) == 1)
        return 4;
    if (inet_pton(AF_INET6, name, address) != 1)
        return 0;
    if (memcmp(address, mapped_prefix, sizeof(mapped_prefix)) != 0)
        return 16;
    memmove(address, address + sizeof(mapped_prefix), 4);
    return 4;
}

const char *base_identifier_from_address(char out[BASE_HOSTNAME_SIZE], const unsigned char *address, int len)
{
    if (len == 16 && memcmp(address, mapped_prefix, sizeof(mapped_prefix)) == 0) {
        address += sizeof(mapped_prefix);
        len = 4;
    }
    inet_ntop(len == 4 ? AF_INET : AF_INET6, address, out, BASE_HOSTNAME_SIZE);
    return out;
}

/* An address with or without brackets. @return out, or NULL when it is none */
static const char *read_address(char out[BASE_HOSTNAME_SIZE], const char *text)
{
    char bare[INET6_ADDRSTRLEN + 1];
    unsigned char address[16];
    size_t len = strlen(text);
    int bracketed = len >= 2 && text[0] == '[' && text[len - 1] == ']', bytes;

    if (bracketed) {
        text++;
        len -= 2;
    }
    if (len >= sizeof(bare))
        return NULL;
    memcpy(bare, text, len);
    bare[len] = '\0';
    bytes = bracketed && strchr(bare, ':') == NULL ? 0 : base_identifier_address(bare, address);
    if (bytes == 0)
        return NULL;
    return base_identifier_from_address(out, address, bytes);
}

/** One block of addresses that are nobody's on the internet. */
typedef struct block_t {
    unsigned char bytes[16];
    int bits;
} block_t;

/* RFC 6890 and the registries that it made. */
static const block_t private_ipv4[] = {
    { { 0 }, 8 },               /* this network */
    { { 10 }, 8 },              /* RFC 1918 */
    { { 100, 64 }, 10 },        /* shared: RFC 6598 */
    { { 127 }, 8 },             /* loopback */
    { { 169, 254 }, 16 },       /* link-local: RFC 3927 */
    { { 172, 16 }, 12 },        /* RFC 1918 */
    { { 192, 0, 0 }, 24 },      /* protocol assignments */
    { { 192, 0, 2 }, 24 },      /* documentation: RFC 5737 */
    { { 192, 168 }, 16 },       /* RFC 1918 */
    { { 198, 18 }, 15 },        /* benchmarks: RFC 2544 */
    { { 198, 51, 100 }, 24 },   /* documentation */
    { { 203, 0, 113 }, 24 },    /* documentation */
    { { 224 }, 3 },             /* multicast, reserved, broadcast */
};

static const block_t private_ipv6[] = {
    { { 0 }, 8 },               /* unspecified, loopback, mapped and the like */
    { { 0x01 }, 8 },            /* discard only: RFC 6666 */
    { { 0x20, 0x01, 0x0d, 0xb8 }, 32 },     /* documentation: RFC 3849 */
    { { 0x3f, 0xff }, 20 },     /* documentation: RFC 9637 */
    { { 0xfc }, 7 },            /* unique local: RFC 4193 */
    { { 0xfe, 0x80 }, 10 },     /* link-local: RFC 4291 */
    { { 0xff }, 8 },            /* multicast */
};

static int is_within(const unsigned char *address, const block_t *block)
{
    int bytes = block->bits / 8, rest = block->bits % 8;
    unsigned char mask = (unsigned char)(0xff << (8 - rest));

    return memcmp(address, block->bytes, (size_t)bytes) == 0
        && (rest == 0 || (address[bytes] & mask) == (block->bytes[bytes] & mask));
}

int base_identifier_is_private_address(const char *name)
{
    unsigned char address[16];
    int len = base_identifier_address(name, address);
    const block_t *blocks = len == 4 ? private_ipv4 : private_ipv6;
    size_t n = len == 4 ? sizeof(private_ipv4) / sizeof(block_t) : sizeof(private_ipv6) / sizeof(block_t);
    size_t i;

    for (i = 0; len > 0 && i < n; i++)
        if (is_within(address, &blocks[i]))
            return 1;
    return 0;
}

/* --- The reverse form --- */

const char *base_identifier_reverse(char out[BASE_HOSTNAME_SIZE], const char *name)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char address[16];
    int len = base_identifier_address(name, address), i;
    char *p = out;

    if (len == 0)
        return NULL;
    if (len == 4) {
        apr_snprintf(out, BASE_HOSTNAME_SIZE, "%d.%d.%d.%d" REVERSE_IPV4, address[3], address[2], address[1],
                     address[0]);
        return out;
    }
    for (i = len - 1; i >= 0; i--) {
        *p++ = digits[address[i] & 0xf];
        *p++ = '.';
        *p++ = digits[address[i] >> 4];
        *p++ = '.';
    }
    memcpy(p - 1, REVERSE_IPV6, sizeof(REVERSE_IPV6));
    return out;
}

/* The part of a name before a suffix. @return its length, 0 when it does not end so or is only that */
static size_t before_suffix(const char *name, const char *suffix)
{
    size_t len = strlen(name), end = strlen(suffix);

    return len > end && strcmp(name + len - end, suffix) == 0 ? len - end : 0;
}

static const char *reverse_ipv4(char out[BASE_HOSTNAME_SIZE], const char *name, size_t len)
{
    unsigned char reversed[4], address[4];
    char text[INET_ADDRSTRLEN];
    int i;

    if (len >= sizeof(text))
        return NULL;
    memcpy(text, name, len);
    text[len] = '\0';
    if (inet_pton(AF_INET, text, reversed) != 1)
        return NULL;
    for (i = 0; i < 4; i++)
        address[i] = reversed[3 - i];
    return base_identifier_from_address(out, address, 4);
}

static int nibble(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static const char *reverse_ipv6(char out[BASE_HOSTNAME_SIZE], const char *name, size_t len)
{
    unsigned char address[16] = { 0 };
    int i;

    if (len != 2 * NIBBLES - 1)
        return NULL;
    for (i = 0; i < NIBBLES; i++) {
        int value = nibble(name[2 * i]);

        if (value < 0 || (i < NIBBLES - 1 && name[2 * i + 1] != '.'))
            return NULL;
        address[15 - i / 2] |= (unsigned char)(i % 2 == 0 ? value : value << 4);
    }
    return base_identifier_from_address(out, address, 16);
}

const char *base_identifier_from_reverse(char out[BASE_HOSTNAME_SIZE], const char *name)
{
    char made[BASE_HOSTNAME_SIZE], again[BASE_HOSTNAME_SIZE];
    const char *found = NULL;
    size_t len;

    if ((len = before_suffix(name, REVERSE_IPV4)) > 0)
        found = reverse_ipv4(made, name, len);
    else if ((len = before_suffix(name, REVERSE_IPV6)) > 0)
        found = reverse_ipv6(made, name, len);
    /* One name stands for one address: that of a mapped one is none of ours. */
    if (found == NULL || strcmp(base_identifier_reverse(again, made), name) != 0)
        return NULL;
    memcpy(out, made, sizeof(made));
    return out;
}

/* --- Names --- */

const char *base_identifier_from_config(const char **out, const char *text, apr_pool_t *pool)
{
    char address[BASE_HOSTNAME_SIZE];
    const char *reason, *base;

    if (text == NULL)
        return "is empty";
    if (read_address(address, text) != NULL) {
        *out = apr_pstrdup(pool, address);
        return NULL;
    }
    base = base_identifier_base(text);
    if (strchr(base, '*') != NULL)
        return "has a \"*\" that is not the whole first label";
    if ((reason = base_hostname_from_config(&base, base, pool)) != NULL)
        return reason;
    if (strncmp(text, STAR, STAR_LEN) != 0) {
        *out = base;
        return NULL;
    }
    if (strlen(base) + STAR_LEN > BASE_HOSTNAME_MAX)
        return "is longer than 253 octets";
    *out = apr_pstrcat(pool, STAR, base, NULL);
    return NULL;
}

const char *base_identifier_wildcard_of(char out[BASE_HOSTNAME_SIZE], const char *name)
{
    const char *rest = strchr(name, '.');

    if (rest == NULL || rest == name || strchr(rest + 1, '.') == NULL || strlen(rest) + 1 > BASE_HOSTNAME_MAX
        || base_identifier_kind(name) != BASE_IDENTIFIER_DNS)
        return NULL;
    out[0] = '*';
    apr_cpystrn(out + 1, rest, BASE_HOSTNAME_SIZE - 1);
    return out;
}

/* As a CA may spell it: letter case and a last dot do not count. */
static int is_same_name(const char *a, const char *b)
{
    size_t a_len = strlen(a), b_len = strlen(b);

    a_len -= a_len > 0 && a[a_len - 1] == '.';
    b_len -= b_len > 0 && b[b_len - 1] == '.';
    return a_len == b_len && strncasecmp(a, b, a_len) == 0;
}

int base_identifier_is_same(const char *a, const char *b)
{
    char one[BASE_HOSTNAME_SIZE], other[BASE_HOSTNAME_SIZE];

    if (read_address(one, a) != NULL)
        return read_address(other, b) != NULL && strcmp(one, other) == 0;
    return is_same_name(a, b);
}

/* --- Stems --- */

const char *base_identifier_stem(char out[BASE_IDENTIFIER_STEM_SIZE], const char *name)
{
    char *p;

    switch (base_identifier_kind(name)) {
    case BASE_IDENTIFIER_WILDCARD:
        apr_snprintf(out, BASE_IDENTIFIER_STEM_SIZE, "%s" WILDCARD_SUFFIX, base_identifier_base(name));
        break;
    case BASE_IDENTIFIER_IP:
        apr_snprintf(out, BASE_IDENTIFIER_STEM_SIZE, "%s%s", strchr(name, ':') ? IPV6_PREFIX : "", name);
        for (p = out; *p != '\0'; p++)
            if (*p == ':')
                *p = '-';
        break;
    default:
        apr_cpystrn(out, name, BASE_IDENTIFIER_STEM_SIZE);
    }
    return out;
}

/* What it might stand for; the caller makes the stem again and compares. */
static int guess_name(char out[BASE_HOSTNAME_SIZE], const char *stem)
{
    char address[BASE_HOSTNAME_SIZE], base[BASE_HOSTNAME_SIZE], *p;
    size_t len = before_suffix(stem, WILDCARD_SUFFIX);

    if (len > 0) {
        if (len + STAR_LEN > BASE_HOSTNAME_MAX || !base_hostname_from_client(base, stem, len))
            return 0;
        apr_snprintf(out, BASE_HOSTNAME_SIZE, STAR "%s", base);
        return 1;
    }
    apr_cpystrn(address, stem, sizeof(address));
    if (strncmp(stem, IPV6_PREFIX, sizeof(IPV6_PREFIX) - 1) == 0 && strchr(stem, '.') == NULL) {
        for (p = address; *p != '\0'; p++)
            if (*p == '-')
                *p = ':';
        return read_address(out, address + sizeof(IPV6_PREFIX) - 1) != NULL;
    }
    return read_address(out, address) != NULL || base_hostname_from_client(out, stem, strlen(stem));
}

const char *base_identifier_from_stem(char out[BASE_HOSTNAME_SIZE], const char *stem, size_t len)
{
    char copy[BASE_IDENTIFIER_STEM_SIZE], again[BASE_IDENTIFIER_STEM_SIZE], name[BASE_HOSTNAME_SIZE];

    if (len == 0 || len >= sizeof(copy) || memchr(stem, '\0', len) != NULL)
        return NULL;
    memcpy(copy, stem, len);
    copy[len] = '\0';
    if (!guess_name(name, copy) || strcmp(base_identifier_stem(again, name), copy) != 0)
        return NULL;
    memcpy(out, name, sizeof(name));
    return out;
}

/* --- For people --- */

const char *base_identifier_unicode(char out[BASE_IDENTIFIER_UNICODE_SIZE], const char *name)
{
    char *unicode = NULL;
    const char *base = base_identifier_base(name);
    size_t star = (size_t)(base - name);
    int usable;

    if (strstr(name, "xn--") == NULL || idn2_to_unicode_8z8z(base, &unicode, 0) != IDN2_OK)
        return NULL;
    usable = strcmp(unicode, base) != 0 && strlen(unicode) + star < BASE_IDENTIFIER_UNICODE_SIZE;
    if (usable) {
        memcpy(out, name, star);
        apr_cpystrn(out + star, unicode, BASE_IDENTIFIER_UNICODE_SIZE - star);
    }
    idn2_free(unicode);
    return usable ? out : NULL;
}
