/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file test_acme_script.h
 * A CA that says what a test has written down: for each "METHOD /path" a list of
 * answers, given one after the other, the last one for ever. "$U" becomes the server's
 * URL. Each answer carries a fresh Replay-Nonce unless its headers say otherwise.
 */
#ifndef TEST_ACME_SCRIPT_H
#define TEST_ACME_SCRIPT_H

#include <apr_general.h>
#include <apr_strings.h>

#include "acme/client.h"
#include "acme/order.h"
#include "base/json.h"
#include "cache/dir.h"
#include "test_acme_server.h"

#define SCRIPT_MAX 64
#define SCRIPT_LOG_MAX 256
#define SCRIPT_LOST 0           /* status: take the request, close without an answer */

typedef struct script_line_t {
    const char *request;        /* "POST /order" */
    int status;
    const char *headers;
    const char *body;
    int used;
} script_line_t;

struct script_t;

/** A look at a request before it is answered, under the mutex. @param status as in the script, may be
 * changed @return the body to answer with, NULL: that of the script */
typedef const char *script_judge_fn(struct script_t *script, const server_request_t *request, int *status);

typedef struct script_t {
    server_t *server;
    script_judge_fn *judge;     /* may be NULL */
    EVP_PKEY *signer;           /* of a judge: whose signatures it takes */
    int loses_answers;          /* of a judge: what is lost was done */
    pthread_mutex_t mutex;
    script_line_t lines[SCRIPT_MAX];
    int count;
    int nonce;
    char *log[SCRIPT_LOG_MAX];  /* "POST /order nonce payload" */
    int logged;
} script_t;

static _Atomic apr_interval_time_t clock_offset;   /* moved by other threads */

SERVER_UNUSED static apr_time_t clock_now(void)
{
    return apr_time_now() + clock_offset;
}

/* Undo base64url; good enough for JSON text. */
static void script_decode(const char *text, char *out, size_t size)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    unsigned int bits = 0, have = 0;
    size_t n = 0;

    for (; *text != '\0' && strchr(letters, *text) != NULL && n + 1 < size; text++) {
        bits = (bits << 6 | (unsigned int)(strchr(letters, *text) - letters)) & 0xfffff;
        have += 6;
        if (have >= 8) {
            have -= 8;
            out[n++] = (char)(bits >> have & 0xff);
        }
    }
    out[n] = '\0';
}

static void script_member(const char *body, const char *member, char *out, size_t size)
{
    char key[32];
    const char *at;

    snprintf(key, sizeof(key), "\"%s\":\"", member);
    at = strstr(body, key);
    out[0] = '\0';
    if (at != NULL) {
        script_decode(at + strlen(key), out, size);
    }
}

static void script_expand(const char *text, const char *url, char *out, size_t size)
{
    size_t n = 0;

    out[0] = '\0';
    while (*text != '\0' && n + 64 < size) {
        if (text[0] == '$' && text[1] == 'U') {
            n += (size_t)snprintf(out + n, size - n, "%s", url);
            text += 2;
        }
        else {
            out[n++] = *text++;
        }
    }
    out[n] = '\0';
}

static void script_note(script_t *script, const server_request_t *r)
{
    char protected[2048], payload[2048], line[4096], *nonce, *end;

    script_member(r->body, "protected", protected, sizeof(protected));
    script_member(r->body, "payload", payload, sizeof(payload));
    nonce = strstr(protected, "\"nonce\":\"");
    nonce = nonce != NULL ? nonce + 9 : protected + strlen(protected);
    end = strchr(nonce, '"');
    if (end != NULL) {
        *end = '\0';
    }
    snprintf(line, sizeof(line), "%s %s %s %s", r->method, r->path, nonce, payload);
    if (script->logged < SCRIPT_LOG_MAX) {
        script->log[script->logged++] = strdup(line);
    }
}

static void script_answer(server_request_t *r, void *baton)
{
    script_t *script = baton;
    script_line_t *line = NULL;
    char request[300], headers[2048], body[8192], nonce[64] = "";
    int i;

    snprintf(request, sizeof(request), "%s %s", r->method, r->path);
    pthread_mutex_lock(&script->mutex);
    script_note(script, r);
    for (i = 0; i < script->count; i++) {
        if (strcmp(script->lines[i].request, request) == 0) {
            line = &script->lines[i];
            if (!line->used) {
                break;
            }
        }
    }
    if (line != NULL) {
        line->used = 1;
        if (strstr(line->headers, "Replay-Nonce") == NULL) {
            snprintf(nonce, sizeof(nonce), "Replay-Nonce: nonce%d\r\n", ++script->nonce);
        }
        script_expand(line->headers, script->server->url, headers, sizeof(headers));
        script_expand(line->body, script->server->url, body, sizeof(body));
    }
    i = line != NULL ? line->status : 599;
    if (line != NULL && script->judge != NULL) {
        const char *other = script->judge(script, r, &i);

        if (other != NULL) {
            script_expand(other, script->server->url, body, sizeof(body));
        }
    }
    pthread_mutex_unlock(&script->mutex);
    if (i == SCRIPT_LOST) {
        r->close = 1;
        return;
    }
    if (line == NULL) {
        server_reply(r, i, "", "not in the script");
        return;
    }
    snprintf(headers + strlen(headers), sizeof(headers) - strlen(headers), "%s", nonce);
    server_reply(r, i, headers, body);
}

/** Write down one answer. */
SERVER_UNUSED static void script_add(script_t *script, const char *request, int status,
                                     const char *headers, const char *body)
{
    script_line_t line = { request, status, headers, body, 0 };

    pthread_mutex_lock(&script->mutex);
    script->lines[script->count++] = line;
    pthread_mutex_unlock(&script->mutex);
}

/** Forget all answers of a request. */
SERVER_UNUSED static void script_drop(script_t *script, const char *request)
{
    int i, n = 0;

    pthread_mutex_lock(&script->mutex);
    for (i = 0; i < script->count; i++) {
        if (strcmp(script->lines[i].request, request) != 0) {
            script->lines[n++] = script->lines[i];
        }
    }
    script->count = n;
    pthread_mutex_unlock(&script->mutex);
}

/** How many requests began like this. */
SERVER_UNUSED static int script_seen(script_t *script, const char *begin)
{
    int i, n = 0;

    pthread_mutex_lock(&script->mutex);
    for (i = 0; i < script->logged; i++) {
        n += strncmp(script->log[i], begin, strlen(begin)) == 0;
    }
    pthread_mutex_unlock(&script->mutex);
    return n;
}

/** The last logged line that began like this, or "". */
SERVER_UNUSED static const char *script_last(script_t *script, const char *begin)
{
    const char *line = "";
    int i;

    pthread_mutex_lock(&script->mutex);
    for (i = 0; i < script->logged; i++) {
        if (strncmp(script->log[i], begin, strlen(begin)) == 0) {
            line = script->log[i];
        }
    }
    pthread_mutex_unlock(&script->mutex);
    return line;
}

/** With a directory and a newNonce that work. */
SERVER_UNUSED static script_t *script_start(void)
{
    script_t *script = calloc(1, sizeof(*script));

    pthread_mutex_init(&script->mutex, NULL);
    script->server = server_start(script_answer, script);
    script_add(script, "GET /dir", 200, "",
               "{\"newNonce\":\"$U/nonce\",\"newAccount\":\"$U/account\","
               "\"newOrder\":\"$U/new\",\"random\":[1],"
               "\"meta\":{\"termsOfService\":\"https://ca.example/tos-1\"}}");
    script_add(script, "HEAD /nonce", 200, "", "");
    return script;
}

SERVER_UNUSED static void script_stop(script_t *script)
{
    int i;

    server_stop(script->server);
    for (i = 0; i < script->logged; i++) {
        free(script->log[i]);
    }
    pthread_mutex_destroy(&script->mutex);
    EVP_PKEY_free(script->signer);
    free(script);
}

/** A CA configuration for it. */
SERVER_UNUSED static acme_client_config_t *script_config(script_t *script, apr_pool_t *pool)
{
    acme_client_config_t *config = apr_pcalloc(pool, sizeof(*config));

    config->name = "scripted";
    config->id = "scripted";
    config->directory_url = apr_pstrcat(pool, script->server->url, "/dir", NULL);
    config->cafile = script->server->cafile;
    config->first = 1;
    config->tos_any = 1;
    return config;
}

/** What a test of accounts or orders works with. */
typedef struct script_fixture_t {
    apr_pool_t *pool;
    script_t *script;
    acme_client_config_t *config;
    base_stop_t *stop;
    cache_t *cache;
    acme_account_t *account;
    acme_order_t *order;        /* the test's own */
    base_error_t err;
    char dir[SCRATCH_SIZE];     /* of the cache */
} script_fixture_t;

/** As a new process with the same cache and configuration. */
SERVER_UNUSED static void script_restart(script_fixture_t *f)
{
    acme_client_t *client;

    assert_int_equal(acme_client_create(&client, f->config, f->stop, clock_now, f->pool),
                     APR_SUCCESS);
    assert_int_equal(acme_account_create(&f->account, client, f->cache, f->pool), APR_SUCCESS);
}

/** Make *state. @return it */
SERVER_UNUSED static script_fixture_t *script_set_up(void **state)
{
    script_fixture_t *f = calloc(1, sizeof(*f));

    clock_offset = 0;
    apr_pool_create(&f->pool, root);
    assert_int_equal(scratch_make(f->dir), 0);
    f->script = script_start();
    f->config = script_config(f->script, f->pool);
    assert_int_equal(base_stop_create(&f->stop, f->pool), APR_SUCCESS);
    assert_int_equal(cache_open(&f->cache, &cache_dir_provider, f->dir, f->pool), APR_SUCCESS);
    script_restart(f);
    *state = f;
    return f;
}

SERVER_UNUSED static int script_tear_down(void **state)
{
    script_fixture_t *f = *state;

    apr_pool_destroy(f->pool);
    script_stop(f->script);
    scratch_remove(f->dir);
    free(f);
    return 0;
}

#endif
