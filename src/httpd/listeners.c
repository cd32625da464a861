/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "httpd/listeners.h"

#include <string.h>

#include <ap_listen.h>
#include <apr_strings.h>

#include "base/identifier.h"
#include "httpd/config.h"

#define HTTP_PORT 80
#define HTTPS_PORT 443

/* TLS is spoken where a managed vhost stands, whatever the Listen line says. */
static int speaks_tls(const ap_listen_rec *lr, server_rec *main_server)
{
    const server_addr_rec *addr;
    server_rec *s;

    if (lr->protocol != NULL && strcasecmp(lr->protocol, "https") == 0)
        return 1;
    for (s = main_server->next; s != NULL; s = s->next)
        for (addr = s->addrs; addr != NULL && httpd_config_of(s)->managed; addr = addr->next)
            if (addr->host_port == lr->bind_addr->port)
                return 1;
    return 0;
}

/* All-zero addresses stand for every one; an IPv6 one takes IPv4 too unless another listener does. */
static int is_any(const apr_sockaddr_t *addr)
{
    const unsigned char *bytes = addr->ipaddr_ptr;
    int i;

    for (i = 0; i < addr->ipaddr_len && bytes[i] == 0; i++)
        ;
    return i == addr->ipaddr_len;
}

static const char *spell(const apr_sockaddr_t *addr, apr_pool_t *pool)
{
    char text[BASE_HOSTNAME_SIZE];

    if (is_any(addr))
        return apr_psprintf(pool, "127.0.0.1:%d", (int)addr->port);
    base_identifier_from_address(text, addr->ipaddr_ptr, addr->ipaddr_len);
    return apr_psprintf(pool, strchr(text, ':') ? "[%s]:%d" : "%s:%d", text, (int)addr->port);
}

static void add(apr_array_header_t *list, const char *address)
{
    int i;

    for (i = 0; i < list->nelts; i++)
        if (strcmp(APR_ARRAY_IDX(list, i, const char *), address) == 0)
            return;
    APR_ARRAY_PUSH(list, const char *) = address;
}

const challenge_listeners_t *httpd_listeners_list(server_rec *main_server, apr_pool_t *pool)
{
    challenge_listeners_t *listeners = apr_palloc(pool, sizeof(*listeners));
    apr_array_header_t *http = apr_array_make(pool, 2, sizeof(const char *));
    apr_array_header_t *https = apr_array_make(pool, 2, sizeof(const char *));
    const ap_listen_rec *lr;
    int known;

    for (known = 1; known >= 0; known--)
        for (lr = ap_listeners; lr != NULL; lr = lr->next) {
            int tls = speaks_tls(lr, main_server);

            if ((lr->bind_addr->port == (tls ? HTTPS_PORT : HTTP_PORT)) == known
                && (lr->bind_addr->ipaddr_len == 4 || lr->bind_addr->ipaddr_len == 16))
                add(tls ? https : http, spell(lr->bind_addr, pool));
        }
    listeners->http = http;
    listeners->https = https;
    return listeners;
}
