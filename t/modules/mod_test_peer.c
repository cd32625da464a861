/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/*
 * For tests of limits that count client networks: connections from some loopback addresses look as if they
 * came from elsewhere.
 *
 *     127.128.C.D -> 2001:db8:128:CCDD::1     one IPv6 /48, C is the /56 in it
 *     127.129.C.D -> 2001:db8:(9CD)::1        an IPv6 /48 for each C and D (CD modulo 4096)
 *     127.130.C.D -> 198.C.D.1                an IPv4 /24 for each C and D
 */
#include <httpd.h>
#include <http_config.h>
#include <http_connection.h>
#include <apr_strings.h>

static const char *pretend(const unsigned char *bytes, apr_pool_t *pool)
{
    switch (bytes[1]) {
    case 128:
        return apr_psprintf(pool, "2001:db8:128:%02x%02x::1", bytes[2], bytes[3]);
    case 129:
        return apr_psprintf(pool, "2001:db8:9%x%02x::1", bytes[2] & 15, bytes[3]);
    case 130:
        return apr_psprintf(pool, "198.%d.%d.1", bytes[2], bytes[3]);
    default:
        return NULL;
    }
}

/* Before anybody looks at the connection, mod_ssl included. */
static int change_address(conn_rec *c, void *socket)
{
    const unsigned char *bytes = c->client_addr->ipaddr_ptr;
    apr_sockaddr_t *address = NULL;
    const char *text = NULL;

    (void)socket;
    if (c->client_addr->family == APR_INET && bytes[0] == 127)
        text = pretend(bytes, c->pool);
    if (text != NULL
        && apr_sockaddr_info_get(&address, text, APR_UNSPEC, c->client_addr->port, 0, c->pool) == APR_SUCCESS) {
        c->client_addr = address;
        c->client_ip = apr_pstrdup(c->pool, text);
    }
    return DECLINED;
}

static void register_hooks(apr_pool_t *pool)
{
    (void)pool;
    ap_hook_pre_connection(change_address, NULL, NULL, APR_HOOK_REALLY_FIRST);
}

AP_DECLARE_MODULE(test_peer) = {
    STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL, register_hooks, AP_MODULE_FLAG_NONE
};
