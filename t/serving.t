# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# What a client gets, with a CA that cannot be reached: the managed certificate if one is
# there, else the static pair that fits, else what AutocertFallback says; without SNI what
# AutocertDefaultHost says. And what must go on working with a managed certificate: client
# certificates, TLS 1.2 renegotiation, HelloRetryRequest, stapling, chains.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Client qw(handshake https_get curl session_cache make_ca issue_pair cache_value
    cert_info);
use Autocert::Server;
use Autocert::Util qw(wait_until free_ports run_program spit scratch);

use constant {
    LIVE_SECONDS   => 30,
    ALERT_INTERNAL => 80,
    ALERT_NO_NAME  => 112,
};

my $stem = scratch() . "/serving.$$";
my $ca = make_ca('CA of managed pairs');
my $static_ca = make_ca('CA of static pairs');
my $clients = make_ca('CA of clients');
my $root = spit("$stem-ca", $ca->{pem});
my $visitor = issue_pair($clients, ['visitor.example.test']);
my %client = (cert => spit("$stem-client", $visitor->{pem}),
    key => spit("$stem-client-key", $visitor->{key_pem}, 0600));
my ($dead, @port) = free_ports(8);
my %vars = (dead => $dead, clients => spit("$stem-clients", $clients->{pem}), ca => $root,
    map { ('p' . ('a' .. 'g')[$_] => $port[$_]) } 0 .. 6);
my $head = <<'CONF';
AutocertCA https://127.0.0.1:@dead@/dir
AutocertAcceptTOS on
AutocertCache dir:@cache@
CONF

sub static_pair
{
    my ($word, $names, %opt) = @_;
    my $pair = issue_pair($static_ca, $names, %opt);
    $vars{"${word}_pem"} = spit("$stem-$word", $pair->{pem});
    $vars{"${word}_key"} = spit("$stem-$word-key", $pair->{key_pem}, 0600);
    return cert_info($pair->{pem});
}

# Put a managed pair of a name into the cache, and return what it shows.
sub manage
{
    my ($server, $name, %opt) = @_;
    my $pair = issue_pair($ca, [$name]);
    $pair->{chain_pem} = '' if $opt{leaf_only};
    $server->cache_put($name, cache_value($pair));
    return cert_info($pair->{pem});
}

subtest 'static pairs' => sub {
    my %static = (
        main => static_pair('main', ['inherited.example.test']),
        own => static_pair('own', ['own.example.test']),
        late => static_pair('late', ['late.example.test'], not_before => -90_000, not_after => -3600),
    );
    my $server = Autocert::Server->new(vars => \%vars, config => $head . <<'CONF');
SSLCertificateFile @main_pem@
SSLCertificateKeyFile @main_key@
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain own.example.test
    SSLCertificateFile @own_pem@
    SSLCertificateKeyFile @own_key@
</VirtualHost>
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain inherited.example.test
</VirtualHost>
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain bare.example.test
</VirtualHost>
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain late.example.test
    SSLCertificateFile @late_pem@
    SSLCertificateKeyFile @late_key@
</VirtualHost>
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain page.example.test
    AutocertFallback placeholder
</VirtualHost>
CONF
    ok $server->start, 'httpd starts' or return;
    my $look = sub {
        my ($short, %more) = @_;
        return https_get(port => $server->https, sni => "$short.example.test", %more);
    };
    for my $tls ('1.2', '1.3') {
        for my $row (['own', 'own'], ['inherited', 'main'], ['refused', 'own']) {
            my ($short, $which) = @$row;
            my $seen = $look->($short, tls => $tls);
            is $seen->{fingerprint}, $static{$which}{fingerprint},
                "TLS $tls, $short: the static pair" or diag $seen->{error};
            is $seen->{status}, 200, "TLS $tls, $short: and the page";
        }
        for my $short (qw(bare late)) {
            my $seen = $look->($short, tls => $tls);
            ok !$seen->{ok}, "TLS $tls, $short: a static pair that does not do";
            is $seen->{alert}, ALERT_INTERNAL, "TLS $tls, $short: is internal_error";
        }
    }
    is $look->('page')->{status}, 503, 'or a page that says so';
    for my $short (qw(own inherited bare late page)) {
        my $pair = manage($server, "$short.example.test");
        my $seen = wait_until(LIVE_SECONDS, sub {
            my $now = $look->($short, ca => $root);
            return $now->{ok} ? $now : undef;
        }, "the managed pair of $short");
        is $seen->{fingerprint}, $pair->{fingerprint}, "$short: the managed pair as soon as there is one";
        is $seen->{status}, 200, "$short: and the page";
    }
    is $look->('refused')->{fingerprint}, $static{own}{fingerprint}, 'a stranger gets what it got';
    ok $server->stop, 'httpd stops';
};

my $server = Autocert::Server->new(vars => \%vars, config => $head . <<'CONF');
Listen 127.0.0.1:@pa@
Listen 127.0.0.1:@pb@
Listen 127.0.0.1:@pc@
Listen 127.0.0.1:@pd@
Listen 127.0.0.1:@pe@
SSLUseStapling on
SSLStaplingCache shmcb:@root@/run/stapling(32768)
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain first.example.test
</VirtualHost>
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain empty.example.test
</VirtualHost>
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain guarded.example.test
    SSLVerifyClient require
    SSLCACertificateFile @clients@
</VirtualHost>
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain leaf.example.test
    SSLVerifyClient optional
    SSLCACertificateFile @ca@
</VirtualHost>
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain partly.example.test
    SSLProtocol -all +TLSv1.2
    SSLCACertificateFile @clients@
    <Location /secret>
        SSLVerifyClient require
    </Location>
</VirtualHost>
<VirtualHost 127.0.0.1:@pa@>
    AutocertDomain page.example.test
    AutocertFallback placeholder
    Protocols h2 http/1.1
</VirtualHost>
<VirtualHost 127.0.0.1:@pb@>
    AutocertDomain one.example.test two.example.test
</VirtualHost>
<VirtualHost 127.0.0.1:@pc@>
    AutocertDomain three.example.test four.example.test
    AutocertDefaultHost four.example.test
</VirtualHost>
<VirtualHost 127.0.0.1:@pd@>
    AutocertDomain five.example.test
    AutocertDefaultHost none
</VirtualHost>
<VirtualHost 127.0.0.1:@pe@>
    AutocertDomain curve.example.test
    SSLOpenSSLConfCmd Curves P-256
</VirtualHost>
CONF
my %managed = map { $_ => manage($server, "$_.example.test", leaf_only => $_ eq 'leaf') }
    qw(first guarded leaf partly one two three four five curve);
spit($server->htdocs . '/secret', "secret\n");
ok $server->start, 'httpd starts with SSLUseStapling' or exit 1;

my ($code, $text) = run_program(['openssl', 's_client', '-connect', '127.0.0.1:' . $server->https,
    '-servername', 'first.example.test', '-status', '-CAfile', $root, '-verify_return_error']);
is $code, 0, 'a client that asks for a stapled answer is served' or diag $text;
like $text, qr/OCSP response: no response sent/, 'without one, as the certificate names no responder';
# AH01882: httpd was built with another OpenSSL, which is none of this test's business.
my @complaints = grep { /\[ssl:(?:warn|error|crit|emerg)\]/ && !/AH01882/ }
    split /\n/, $server->log_since(0);
is_deeply \@complaints, [], 'and mod_ssl has nothing to complain of';

for my $tls ('1.2', '1.3') {
    my %visit = (port => $server->https, tls => $tls);
    my $seen = handshake(%visit, sni => 'empty.example.test');
    is $seen->{alert}, ALERT_INTERNAL, "TLS $tls: no certificate: internal_error";
    $seen = handshake(%visit, sni => 'refused.example.test');
    is $seen->{alert}, ALERT_NO_NAME, "TLS $tls: a name that is not managed: unrecognized_name";
    $seen = https_get(%visit, sni => 'first.example.test', ca => $root);
    is $seen->{status}, 200, "TLS $tls: a name with a certificate is served" or diag $seen->{error};

    $seen = https_get(%visit, sni => 'guarded.example.test', ca => $root);
    isnt $seen->{status}, 200, "TLS $tls: client certificates are still required";
    $seen = https_get(%visit, sni => 'guarded.example.test', ca => $root, %client);
    is $seen->{status}, 200, "TLS $tls: with one it is served" or diag $seen->{error};
    is $seen->{fingerprint}, $managed{guarded}{fingerprint}, "TLS $tls: by the managed certificate";

    $seen = handshake(%visit, sni => 'leaf.example.test', ca => $root);
    is $seen->{chain_length}, 1, "TLS $tls: a leaf alone is sent alone, the client CA is no chain";
    $seen = handshake(%visit, sni => 'first.example.test', ca => $root);
    is $seen->{chain_length}, 2, "TLS $tls: a chain is sent as it is";
}

subtest 'X-23 clients without SNI' => sub {
    for my $tls ('1.2', '1.3') {
        for my $row (['the first name', $port[1], 'one'], ['AutocertDefaultHost', $port[2], 'four']) {
            my ($what, $at, $short) = @$row;
            my $seen = handshake(port => $at, tls => $tls);
            is $seen->{fingerprint}, $managed{$short}{fingerprint}, "TLS $tls: $what"
                or diag $seen->{error};
        }
        my $seen = handshake(port => $port[3], tls => $tls);
        ok !$seen->{ok}, "TLS $tls: AutocertDefaultHost none: no certificate";
        is $seen->{alert}, ALERT_INTERNAL, "TLS $tls: but an alert";
        $seen = handshake(port => $port[3], tls => $tls, sni => 'five.example.test');
        is $seen->{fingerprint}, $managed{five}{fingerprint}, "TLS $tls: with SNI there is one";
    }
};

subtest 'the placeholder' => sub {
    my %visit = (port => $port[0], sni => 'page.example.test');
    my $check = sub {
        my ($seen, $what) = @_;
        is $seen->{status}, 503, "$what: 503" or return diag $seen->{error};
        like $seen->{headers}{'retry-after'}, qr/^\d+$/, "$what: Retry-After";
        like $seen->{body}, qr/page\.example\.test/, "$what: the page names the host";
        unlike $seen->{body}, qr/hello from/, "$what: and is not the site";
        return;
    };
    for my $tls ('1.2', '1.3') {
        my %session = (tls => $tls, session => session_cache());
        $check->(https_get(%visit, %session), "TLS $tls");
        my $again = https_get(%visit, %session);
        ok $again->{reused}, "TLS $tls: a session is resumed";
        $check->($again, "TLS $tls, resumed");

        my %odd = (%visit, sni => 'x<b>&"y.example.test', host => 'page.example.test', tls => $tls,
            session => session_cache());
        for my $what ('full', 'resumed') {
            my $seen = https_get(%odd);
            is $seen->{status}, 503, "TLS $tls, strange name, $what: 503" or diag $seen->{error};
            like $seen->{body}, qr/x&lt;b&gt;&amp;&quot;y\.example\.test/,
                "TLS $tls, strange name, $what: is escaped";
            unlike $seen->{body}, qr/x<b>/, "TLS $tls, strange name, $what: no markup of a stranger";
        }
    }
    my ($exit, $page) = curl('-k', '--http2', '-D', '-', "https://page.example.test:$port[0]/");
    is $exit, 0, 'curl gets it' or diag $page;
    like $page, qr{^HTTP/2 503}, 'over HTTP/2';
    like $page, qr/^retry-after: \d+\r$/mi, 'over HTTP/2: Retry-After';
    like $page, qr/page\.example\.test/, 'over HTTP/2: the name';
    my $other = https_get(port => $server->https, sni => 'first.example.test', ca => $root);
    is $other->{status}, 200, 'others are served meanwhile';

    my $session = session_cache();
    $check->(https_get(%visit, session => $session), 'before');
    my $pair = manage($server, 'page.example.test');
    my $seen = wait_until(LIVE_SECONDS, sub {
        my $now = https_get(%visit, ca => $root);
        return $now->{ok} ? $now : undef;
    }, 'the managed certificate');
    is $seen->{fingerprint}, $pair->{fingerprint}, 'the managed certificate takes its place';
    is $seen->{status}, 200, 'and the site';
    # Each child compares with the cache by itself, some seconds apart.
    is wait_until(LIVE_SECONDS, sub {
        my $now = https_get(%visit, session => $session);
        return ($now->{status} // 0) == 200 ? 200 : undef;
    }, 'the site over an old session'), 200, 'for an old session too';
};

subtest 'TLS 1.2 renegotiation' => sub {
    my %visit = (port => $server->https, sni => 'partly.example.test', ca => $root, tls => '1.2');
    is https_get(%visit)->{status}, 200, 'without a client certificate: the open part';
    isnt https_get(%visit, path => '/secret')->{status}, 200, 'but not the closed part';
    my $seen = https_get(%visit, path => '/secret', %client);
    is $seen->{status}, 200, 'with one it is asked for and accepted' or diag $seen->{error};
    is $seen->{body}, "secret\n", 'the closed part';
};

subtest 'HelloRetryRequest' => sub {
    my ($status, $text) = run_program(['openssl', 's_client', '-connect', "127.0.0.1:$port[4]",
        '-servername', 'curve.example.test', '-tls1_3', '-groups', 'X25519:P-256', '-msg',
        '-CAfile', $root, '-verify_return_error', '-verify_hostname', 'curve.example.test']);
    is $status, 0, 'the handshake succeeds' or diag $text;
    my $hellos = () = $text =~ /ClientHello/g;
    is $hellos, 2, 'with a second ClientHello';
    like $text, qr/Verification: OK|Verify return code: 0/, 'and verifies';
};

unlike $server->log_since(0), qr/AC0132/, 'a pair found in the cache does not mean that the CA answers';

done_testing;
