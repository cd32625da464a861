/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * For tests of limits by client network: connections from these loopback addresses get a client address
 * that looks like one of the Internet, before anything else sees the connection. All others are left alone.
 *
 *     127.128.C.D   2001:db8:128:CCDD::1    one IPv6 /48, each C a /56 of it
 *     127.129.C.D   2001:db8:CCDD::1        each a /48 of its own
 *     127.130.C.D   198.C.D.1               each an IPv4 /24 of its own
 *
 * CC and DD are C and D in hexadecimal, two digits each.
 */

#include <string.h>

#include <httpd.h>
#include <http_config.h>
#include <http_connection.h>
#include <http_log.h>
#include <apr_network_io.h>

#define FIRST_BYTE 127
#define ONE_SITE 128
#define MANY_SITES 129
#define MANY_IPV4 130
#define PUBLIC_FIRST_BYTE 198
#define IPV4_SIZE 4
#define IPV6_SIZE 16
#define IPV4_TEXT_SIZE 16       /* what apr_sockaddr_t wants to know besides */
#define IPV6_TEXT_SIZE 46

/* Filled by hand: a resolver opens files, and a test may count those. */
static apr_sockaddr_t *make_address(const conn_rec *c, int family)
{
    apr_sockaddr_t *address = apr_pcalloc(c->pool, sizeof(*address));

    address->pool = c->pool;
    address->port = c->client_addr->port;
    address->family = family;
    if (family == APR_INET) {
        address->salen = sizeof(address->sa.sin);
        address->ipaddr_len = IPV4_SIZE;
        address->addr_str_len = IPV4_TEXT_SIZE;
        address->ipaddr_ptr = &address->sa.sin.sin_addr;
        address->sa.sin.sin_family = APR_INET;
        address->sa.sin.sin_port = htons(address->port);
    }
#if APR_HAVE_IPV6
    else {
        address->salen = sizeof(address->sa.sin6);
        address->ipaddr_len = IPV6_SIZE;
        address->addr_str_len = IPV6_TEXT_SIZE;
        address->ipaddr_ptr = &address->sa.sin6.sin6_addr;
        address->sa.sin6.sin6_family = APR_INET6;
        address->sa.sin6.sin6_port = htons(address->port);
    }
#endif
    return address;
}

static apr_sockaddr_t *play_ipv4(const conn_rec *c, unsigned char high, unsigned char low)
{
    const unsigned char bytes[IPV4_SIZE] = {PUBLIC_FIRST_BYTE, high, low, 1};
    apr_sockaddr_t *address = make_address(c, APR_INET);

    memcpy(address->ipaddr_ptr, bytes, sizeof(bytes));
    return address;
}

#if APR_HAVE_IPV6
static apr_sockaddr_t *play_ipv6(const conn_rec *c, int one_site, unsigned char high, unsigned char low)
{
    const unsigned char inside[IPV6_SIZE] = {0x20, 0x01, 0x0d, 0xb8, 0x01, 0x28, high, low, [15] = 1};
    const unsigned char apart[IPV6_SIZE] = {0x20, 0x01, 0x0d, 0xb8, high, low, [15] = 1};
    apr_sockaddr_t *address = make_address(c, APR_INET6);

    memcpy(address->ipaddr_ptr, one_site ? inside : apart, IPV6_SIZE);
    return address;
}
#endif

/* The four bytes of an IPv4 address, also of one in IPv6 clothes; NULL for others. */
static const unsigned char *ipv4_bytes(const apr_sockaddr_t *address)
{
    if (address->family == APR_INET)
        return address->ipaddr_ptr;
#if APR_HAVE_IPV6
    if (address->family == APR_INET6 && IN6_IS_ADDR_V4MAPPED(&address->sa.sin6.sin6_addr))
        return (const unsigned char *)address->ipaddr_ptr + IPV6_SIZE - IPV4_SIZE;
#endif
    return NULL;
}

static int change_client(conn_rec *c, void *csd)
{
    const unsigned char *from = c->client_addr ? ipv4_bytes(c->client_addr) : NULL;
    apr_sockaddr_t *address = NULL;
    const char *before = c->client_ip;

    (void)csd;
    if (from == NULL || from[0] != FIRST_BYTE)
        return DECLINED;
    if (from[1] == MANY_IPV4)
        address = play_ipv4(c, from[2], from[3]);
#if APR_HAVE_IPV6
    else if (from[1] == ONE_SITE || from[1] == MANY_SITES)
        address = play_ipv6(c, from[1] == ONE_SITE, from[2], from[3]);
#endif
    if (address == NULL)
        return DECLINED;
    c->client_addr = address;
    apr_sockaddr_ip_get(&c->client_ip, address);
    ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, c, "%s plays %s", before, c->client_ip);
    return DECLINED;
}

static void register_hooks(apr_pool_t *pool)
{
    (void)pool;
    /* Before mod_ssl's, although that only prepares the handshake. */
    ap_hook_pre_connection(change_client, NULL, NULL, APR_HOOK_REALLY_FIRST);
}

AP_DECLARE_MODULE(test_peer) = {
    STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL, register_hooks, AP_MODULE_FLAG_NONE
};
