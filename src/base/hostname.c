/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "base/hostname.h"

#include <string.h>

#include <apr_strings.h>
#include <arpa/inet.h>
#include <idn2.h>

#define LABEL_MAX 63            /* octets (RFC 1035 section 2.3.4) */
#define CONFIG_NAME_MAX 1024    /* octets of a U-label form that are looked at */

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

        if (!is_digit(c) && !(c >= 'a' && c <= 'z') && c != '-')
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

/* --- Names on demand --- */

/* Prefixes that hosts usually have, and that who makes names up puts before names he has seen. Sorted. */
static const char *const usual_prefixes[] = {
    "admin", "api", "app", "assets", "autoconfig", "autodiscover", "beta", "blog", "cdn", "cloud", "cpanel",
    "dashboard", "demo", "dev", "dns", "email", "files", "forum", "ftp", "git", "help", "images", "imap", "img",
    "intranet", "jenkins", "login", "m", "mail", "media", "mobile", "monitor", "mx", "new", "ns", "ns1", "ns2",
    "old", "panel", "pop", "pop3", "portal", "preview", "prod", "relay", "remote", "secure", "server", "shop",
    "smtp", "sso", "stage", "staging", "static", "status", "store", "support", "test", "uat", "video", "vpn",
    "web", "webdisk", "webmail", "whm", "wiki", "www", "www1", "www2"
};

static int is_usual_prefix(const char *label, size_t len)
{
    size_t low = 0, high = sizeof(usual_prefixes) / sizeof(usual_prefixes[0]);

    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strncmp(label, usual_prefixes[middle], len);

        if (order == 0 && usual_prefixes[middle][len] == '\0')
            return 1;
        if (order <= 0)
            high = middle;
        else
            low = middle + 1;
    }
    return 0;
}

static const char *next_label(const char *label)
{
    const char *dot = strchr(label, '.');

    return dot ? dot + 1 : NULL;
}

static size_t label_length(const char *label)
{
    return strcspn(label, ".");
}

/* How many labels there are from here on. */
static int count_labels(const char *name)
{
    int count = 0;

    for (; name; name = next_label(name))
        count++;
    return count;
}

int base_hostname_is_made_up(const char *name)
{
    int left = count_labels(name), usual = 0;
    const char *label, *next;

    for (label = name; (next = next_label(label)) != NULL; label = next, left--) {
        size_t len = label_length(label);

        if (len == label_length(next) && strncmp(label, next, len) == 0)
            return 1;
        usual = left > 2 && is_usual_prefix(label, len) ? usual + 1 : 0;
        if (usual == 3)
            return 1;
    }
    return 0;
}

const char *base_hostname_owner(const char *name)
{
    int left = count_labels(name);
    const char *last, *second;

    for (; left > 3; left--)
        name = next_label(name);
    if (left < 3)
        return name;
    second = next_label(name);
    last = next_label(second);
    return label_length(last) == 2 && label_length(second) <= 3 ? name : second;
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
