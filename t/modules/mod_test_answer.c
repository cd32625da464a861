/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * For tests of how the server looks at its own answers to challenges: something else that answers first.
 *
 *     TestAnswer missing|loop|other [except WORD]
 *     TestAnswerClose PORT
 *
 * The first answers requests for http-01 by 404, by a redirect to itself, or with another text; not those
 * whose User-Agent has the word. The second closes connections to that port before a byte was read. Both in
 * server config.
 */

#include <stdlib.h>
#include <string.h>

#include <httpd.h>
#include <http_config.h>
#include <http_connection.h>
#include <http_core.h>
#include <http_protocol.h>
#include <apr_network_io.h>
#include <apr_strings.h>
#include <apr_tables.h>

#define CHALLENGES "/.well-known/acme-challenge/"
#define BEFORE_ALL (APR_HOOK_REALLY_FIRST - 10)

static struct {
    const char *how;
    const char *except;
    apr_port_t closed;
} settings;

module AP_MODULE_DECLARE_DATA test_answer_module;

static int is_meant(const request_rec *r)
{
    const char *agent = apr_table_get(r->headers_in, "User-Agent");

    if (settings.how == NULL || r->main != NULL || r->prev != NULL
        || strncmp(r->uri, CHALLENGES, sizeof(CHALLENGES) - 1) != 0)
        return 0;
    return settings.except == NULL || agent == NULL || strstr(agent, settings.except) == NULL;
}

static int send_other(request_rec *r)
{
    static const char text[] = "another server's words\n";

    ap_set_content_type(r, "text/plain");
    ap_set_content_length(r, sizeof(text) - 1);
    ap_rputs(text, r);
    ap_finalize_request_protocol(r);
    return DONE;
}

static int answer(request_rec *r)
{
    if (!is_meant(r))
        return DECLINED;
    if (strcmp(settings.how, "missing") == 0)
        return HTTP_NOT_FOUND;
    if (strcmp(settings.how, "other") == 0)
        return send_other(r);
    apr_table_setn(r->headers_out, "Location",
                   apr_psprintf(r->pool, "http://%s%s", r->hostname ? r->hostname : "localhost", r->uri));
    return HTTP_MOVED_TEMPORARILY;
}

static int close_connection(conn_rec *c)
{
    if (settings.closed == 0 || c->local_addr->port != settings.closed)
        return DECLINED;
    /* Only that keeps mod_ssl from a handshake: it makes one even to say goodbye. */
    apr_socket_shutdown(ap_get_conn_socket(c), APR_SHUTDOWN_READWRITE);
    c->aborted = 1;
    if (c->cs != NULL)
        c->cs->state = CONN_STATE_LINGER;
    return OK;
}

static const char *set_answer(cmd_parms *cmd, void *dir_config, const char *how, const char *word,
                              const char *except)
{
    (void)cmd;
    (void)dir_config;
    if (strcmp(how, "missing") != 0 && strcmp(how, "loop") != 0 && strcmp(how, "other") != 0)
        return "TestAnswer: write missing, loop or other";
    if (word != NULL && (strcmp(word, "except") != 0 || except == NULL))
        return "TestAnswer: write \"except WORD\" behind it, or nothing";
    settings.how = how;
    settings.except = except;
    return NULL;
}

static const char *set_closed(cmd_parms *cmd, void *dir_config, const char *port)
{
    long number = strtol(port, NULL, 10);

    (void)cmd;
    (void)dir_config;
    if (number < 1 || number > 65535)
        return "TestAnswerClose: write a port";
    settings.closed = (apr_port_t)number;
    return NULL;
}

/* Nothing is left of a configuration that was read before. */
static int forget_settings(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp)
{
    (void)pconf;
    (void)plog;
    (void)ptemp;
    memset(&settings, 0, sizeof(settings));
    return OK;
}

static void register_hooks(apr_pool_t *pool)
{
    (void)pool;
    ap_hook_pre_config(forget_settings, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_process_connection(close_connection, NULL, NULL, BEFORE_ALL);
    ap_hook_post_read_request(answer, NULL, NULL, BEFORE_ALL);
}

static const command_rec commands[] = {
    AP_INIT_TAKE13("TestAnswer", set_answer, NULL, RSRC_CONF, "how requests for http-01 are answered"),
    AP_INIT_TAKE1("TestAnswerClose", set_closed, NULL, RSRC_CONF, "port whose connections are closed"),
    { NULL, { NULL }, NULL, 0, 0, NULL }
};

AP_DECLARE_MODULE(test_answer) = {
    STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, commands, register_hooks, AP_MODULE_FLAG_NONE
};
