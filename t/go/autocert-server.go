// Licensed under the Apache License, Version 2.0; see LICENSE.

// An HTTPS server with Go's autocert, as its documentation shows it, to be measured
// beside mod_autocert. Built by "make go-server" from Debian's golang-golang-x-crypto-dev.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strings"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

var (
	listen    = flag.String("listen", "127.0.0.1:443", "`address` for HTTPS and tls-alpn-01")
	plain     = flag.String("http", "", "`address` for HTTP and http-01; none: http-01 is not tried")
	cache     = flag.String("cache", "", "`directory` of certificates; none: they are not kept")
	directory = flag.String("directory", "", "`URL` of the CA's directory; none: Let's Encrypt")
	cafile    = flag.String("cafile", "", "`file` of certificates to trust the CA's own TLS by")
	hosts     = flag.String("hosts", "", "`names` that may have a certificate, separated by commas")
	anyHost   = flag.Bool("any", false, "every name may")
)

// policy is autocert.HostWhitelist but for the port, which a CA that tries http-01 elsewhere
// than on port 80 sends in the Host field, and which HostWhitelist then does not find.
func policy(list string) autocert.HostPolicy {
	allowed := autocert.HostWhitelist(strings.Split(list, ",")...)
	return func(ctx context.Context, host string) error {
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		return allowed(ctx, host)
	}
}

// trusting makes a client for a CA whose TLS certificate the system does not know.
func trusting(file string) (*http.Client, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: no certificates", file)
	}
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots},
		ForceAttemptHTTP2: true,
	}}, nil
}

func newManager() (*autocert.Manager, error) {
	if (*hosts == "") == !*anyHost {
		return nil, fmt.Errorf("either -hosts or -any")
	}
	m := &autocert.Manager{Prompt: autocert.AcceptTOS}
	if *hosts != "" {
		m.HostPolicy = policy(*hosts)
	}
	if *cache != "" {
		m.Cache = autocert.DirCache(*cache)
	}
	if *directory != "" || *cafile != "" {
		m.Client = &acme.Client{DirectoryURL: *directory}
		if *cafile != "" {
			client, err := trusting(*cafile)
			if err != nil {
				return nil, err
			}
			m.Client.HTTPClient = client
		}
	}
	return m, nil
}

func main() {
	flag.Parse()
	m, err := newManager()
	if err != nil {
		log.Fatal(err)
	}
	if *plain != "" {
		go func() { log.Fatal(http.ListenAndServe(*plain, m.HTTPHandler(nil))) }()
	}
	server := &http.Server{
		Addr:      *listen,
		TLSConfig: m.TLSConfig(),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "hello from Go, %s\n", r.TLS.ServerName)
		}),
	}
	log.Fatal(server.ListenAndServeTLS("", ""))
}
