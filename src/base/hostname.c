/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "base/hostname.h"

#include <string.h>

#include <apr_strings.h>
#include <arpa/inet.h>
#include <idn2.h>

#define LABEL_MAX 63            /* octets (RFC 1035 section 2.3.4) */
#define CONFIG_NAME_MAX 1024    /* octets of a U-label form that are looked at */
#define SECOND_LEVEL_MAX 3      /* octets of what stands before a country: "co", "com" */
#define PREFIXES_MADE_UP 3      /* usual prefixes in a row that nobody uses */

static const char NOT_A_HOST[] = "has a character that host names cannot have";
/* One text: libidn2 says the same of what it made of a forbidden character itself. */
static const char BAD_ALABEL[] =
    "has a broken \"xn--\" label or a character that host names cannot have";

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Of a name that is in lower case. */
static int is_letter(char c)
{
    return c >= 'a' && c <= 'z';
}

/* One lower-case label. @return NULL, or what is wrong with it */
static const char *judge_label(const char *label, size_t len)
{
    size_t i;

    if (len == 0)
        return "has an empty label";
    if (len > LABEL_MAX)
        return "has a label longer than 63 octets";
    for (i = 0; i < len; i++) {
        char c = label[i];

        if (!is_digit(c) && !is_letter(c) && c != '-')
            return NOT_A_HOST;
    }
    if (label[0] == '-' || label[len - 1] == '-')
        return "has a label that begins or ends with a hyphen";
    /* RFC 5890 section 2.3.1: the other reserved LDH labels have no meaning. */
    if (len >= 4 && label[2] == '-' && label[3] == '-' && memcmp(label, "xn", 2) != 0)
        return "has \"--\" as third and fourth character of a label";
    return NULL;
}

static int is_number(const char *label, size_t len)
{
    size_t i;

    for (i = 0; i < len && is_digit(label[i]); i++)
        ;
    return i == len;
}

/* A lower-case name without its last dot. @return NULL, or what is wrong with it */
static const char *judge_name(const char *name, size_t len)
{
    const char *end = name + len, *label = name, *dot;
    const char *why;

    if (len == 0)
        return "is empty";
    if (len > BASE_HOSTNAME_MAX)
        return "is longer than 253 octets";
    while ((dot = memchr(label, '.', (size_t)(end - label))) != NULL) {
        if ((why = judge_label(label, (size_t)(dot - label))) != NULL)
            return why;
        label = dot + 1;
    }
    if ((why = judge_label(label, (size_t)(end - label))) != NULL)
        return why;
    if (label == name)
        return "has no dot";
    /* URL parsers take every such name for an IPv4 address, and no TLD is a number. */
    if (is_number(label, (size_t)(end - label)))
        return "is an IP address";
    return NULL;
}

/* Lower case and one trailing dot off; what is too long is left to the judge.
 * @return the length that counts */
static size_t normalize(char out[BASE_HOSTNAME_SIZE], const char *name, size_t len)
{
    size_t i;

    if (len > 0 && name[len - 1] == '.')
        len--;
    for (i = 0; i < len && i < BASE_HOSTNAME_MAX; i++)
        out[i] = lower(name[i]);
    out[i] = '\0';
    return len;
}

int base_hostname_from_client(char out[BASE_HOSTNAME_SIZE], const char *name, size_t len)
{
    char made[BASE_HOSTNAME_SIZE];
    size_t made_len;

    if (!name)
        return 0;
    made_len = normalize(made, name, len);
    if (judge_name(made, made_len))
        return 0;
    memcpy(out, made, made_len + 1);
    return 1;
}

/* An IPv6 address, with or without the brackets of a URL. */
static int is_ipv6(const char *name)
{
    char bare[INET6_ADDRSTRLEN];
    unsigned char address[16];
    size_t len = strlen(name);

    if (len >= 2 && name[0] == '[' && name[len - 1] == ']') {
        name++;
        len -= 2;
    }
    if (len >= sizeof(bare))
        return 0;
    memcpy(bare, name, len);
    bare[len] = '\0';
    return inet_pton(AF_INET6, bare, address) == 1;
}

/* Non-zero when libidn2 has nothing to map or to check in it. */
static int is_plain(const char *name)
{
    const char *c;

    for (c = name; *c; c++) {
        if ((unsigned char)*c >= 0x80)
            return 0;
        if (lower(c[0]) == 'x' && lower(c[1]) == 'n' && c[2] == '-' && c[3] == '-')
            return 0;
    }
    return 1;
}

static const char *explain_idn(int code)
{
    static const struct {
        int code;
        const char *why;
    } reasons[] = {
        { IDN2_MALLOC, "cannot be read: out of memory" },
        { IDN2_ENCODING_ERROR, "is not UTF-8" },
        { IDN2_TOO_BIG_DOMAIN, "is longer than 253 octets" },
        { IDN2_TOO_BIG_LABEL, "has a label longer than 63 octets" },
        { IDN2_HYPHEN_STARTEND, "has a label that begins or ends with a hyphen" },
        { IDN2_2HYPHEN, "has \"--\" as third and fourth character of a label" },
        { IDN2_PUNYCODE_BAD_INPUT, BAD_ALABEL },
        { IDN2_PUNYCODE_BIG_OUTPUT, "has a label longer than 63 octets" },
        { IDN2_PUNYCODE_OVERFLOW, BAD_ALABEL },
        { IDN2_INVALID_ALABEL, BAD_ALABEL },
        { IDN2_ALABEL_ROUNDTRIP_FAILED, BAD_ALABEL },
    };
    size_t i;

    for (i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        if (reasons[i].code == code)
            return reasons[i].why;
    }
    return NOT_A_HOST;
}

const char *base_hostname_from_config(const char **out, const char *name, apr_pool_t *pool)
{
    char made[BASE_HOSTNAME_SIZE];
    char *ascii = NULL;
    const char *why;
    size_t len;
    int code;

    if (!name || !*name)
        return "is empty";
    if (strlen(name) > CONFIG_NAME_MAX)
        return "is longer than 253 octets";
    if (strchr(name, '*'))
        return "is a wildcard";
    if (is_ipv6(name))
        return "is an IP address";
    if (!is_plain(name)) {
        /* Not IDN2_USE_STD3_ASCII_RULES: with it libidn2 2.3 silently drops the forbidden
         * characters, which makes another name. Punycode shows ASCII as it is, so the
         * judge below applies the same rules and sees them. */
        code = idn2_to_ascii_8z(name, &ascii, IDN2_NONTRANSITIONAL);
        if (code != IDN2_OK)
            return explain_idn(code);
        name = ascii;
    }
    /* Once more on what came out: the mapping can make dots, digits and hyphens
     * of other characters. */
    len = normalize(made, name, strlen(name));
    why = judge_name(made, len);
    if (!why)
        *out = apr_pstrmemdup(pool, made, len);
    idn2_free(ascii);
    return why;
}

const char *base_hostname_special_use(const char *name)
{
    static const char *const suffixes[] = {
        "alt",          /* RFC 9476 */
        "home.arpa",    /* RFC 8375 */
        "internal",     /* reserved by ICANN in 2024 for private use */
        "invalid",      /* RFC 6761 */
        "local",        /* RFC 6762 */
        "localhost",    /* RFC 6761 */
        "onion",        /* RFC 7686 */
        "in-addr.arpa", /* RFC 1035 section 3.5 */
        "ip6.arpa",     /* RFC 3596 */
    };
    size_t len = strlen(name);
    size_t i;

    for (i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        size_t suffix_len = strlen(suffixes[i]);

        if (len < suffix_len || memcmp(name + len - suffix_len, suffixes[i], suffix_len) != 0)
            continue;
        if (len == suffix_len || name[len - suffix_len - 1] == '.')
            return suffixes[i];
    }
    return NULL;
}

/* The last labels of a name; all of it when it has no more. */
static const char *find_last_labels(const char *name, int count)
{
    const char *at = name + strlen(name);

    while (at > name) {
        if (at[-1] == '.' && --count == 0)
            break;
        at--;
    }
    return at;
}

static int is_usual_prefix(const char *label, size_t len)
{
    static const char *const prefixes[] = {
        "admin", "api", "app", "assets", "auth", "autoconfig", "autodiscover", "backup", "beta",
        "blog", "cdn", "cloud", "cpanel", "cpcalendars", "cpcontacts", "dashboard", "demo", "dev",
        "docs", "email", "files", "forum", "ftp", "git", "help", "images", "imap", "img", "intranet",
        "m", "mail", "media", "mobile", "mx", "my", "news", "ns", "ns1", "ns2", "old", "pop", "pop3",
        "portal", "qa", "remote", "secure", "server", "shop", "smtp", "sso", "stage", "staging",
        "static", "status", "support", "test", "vpn", "web", "webdisk", "webmail", "whm", "wiki",
        "www",
    };
    size_t i;

    for (i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
        if (strlen(prefixes[i]) == len && memcmp(prefixes[i], label, len) == 0)
            return 1;
    }
    return 0;
}

int base_hostname_is_made_up(const char *name)
{
    const char *end = find_last_labels(name, 2);
    const char *label, *before = NULL;
    size_t len, before_len = 0;
    int prefixes = 0;

    for (label = name; label < end; label += len + 1) {
        len = strcspn(label, ".");
        if (before && len == before_len && memcmp(label, before, len) == 0)
            return 1;
        prefixes = is_usual_prefix(label, len) ? prefixes + 1 : 0;
        if (prefixes == PREFIXES_MADE_UP)
            return 1;
        before = label;
        before_len = len;
    }
    return 0;
}

const char *base_hostname_owner(const char *name)
{
    const char *owner = find_last_labels(name, 2);
    const char *country = find_last_labels(name, 1);

    if (is_letter(country[0]) && is_letter(country[1]) && country[2] == '\0'
        && country - owner <= SECOND_LEVEL_MAX + 1)
        return find_last_labels(name, 3);
    return owner;
}

unsigned int base_hostname_hash(const char *name)
{
    unsigned int hash = 2166136261u;    /* the offset basis and prime of 32-bit FNV */

    for (; *name; name++) {
        hash ^= (unsigned char)*name;
        hash *= 16777619u;
    }
    return hash ? hash : 1;
}
