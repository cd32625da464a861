# Licensed under the Apache License, Version 2.0; see LICENSE.
# seconds: 200
#
# Names on demand in less usual company: names that fail, a certificate that another server obtained, plain
# requests that are redirected, resumed sessions, client certificates, a policy that changed its mind.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);
use Time::HiRes ();

use Autocert::Client qw(https_get http_get handshake session_cache make_ca issue_pair cache_value cert_info);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until free_ports spit scratch);

use constant {
    INTERNAL     => 80,
    NO_NAME      => 112,
    LIVE_SECONDS => 40,
};

my $ca = make_ca('a CA by hand');
my $hand = spit(scratch() . "/demand-more.$$", $ca->{pem});

subtest 'a name that fails' => sub {
    my $pebble = Autocert::Pebble->new;
    $pebble->start;
    my $server = Autocert::Server->with_ca($pebble, config => <<'CONF');
<VirtualHost 127.0.0.1:@https@>
    AutocertHostPolicy match [a-z]{1,9}\.back\.test
</VirtualHost>
CONF
    ok $server->start, 'httpd starts' or return;
    # Nobody listens there, so the CA cannot see the answer.
    $pebble->dns_set('add-a', host => 'bad.back.test', addresses => ['127.0.0.9']);
    my %visit = (port => $server->https, ca => $pebble->root);
    my $seen = handshake(%visit, sni => 'bad.back.test');
    is $seen->{alert}, INTERNAL, 'internal_error, as soon as it failed' or diag $seen->{error} // 'served';
    ok $server->wait_for_log(qr/AC0120: autocert: bad\.back\.test: not obtained .*next try \d\d:\d\d/, LIVE_SECONDS),
        'the log has the words of the CA and the next try';
    my $orders = $pebble->orders;
    for my $n (1 .. 3) {
        my $begin = Time::HiRes::time();
        $seen = handshake(%visit, sni => 'bad.back.test');
        is $seen->{alert}, INTERNAL, "FA-01 again ($n): internal_error" or diag $seen->{error} // 'served';
        cmp_ok Time::HiRes::time() - $begin, '<', 5, "FA-01 again ($n): nobody waits for a name in back-off";
    }
    is $pebble->orders, $orders, 'and nothing is ordered';
    ok $server->restart, 'httpd restarts';
    $seen = handshake(%visit, sni => 'bad.back.test');
    is $seen->{alert}, INTERNAL, 'X-10 after a restart the same';
    is $pebble->orders, $orders, 'X-10 and nothing is ordered';
    $seen = https_get(%visit, sni => 'good.back.test');
    is $seen->{status}, 200, 'other names are obtained' or diag $seen->{error};
    ok $server->stop, 'httpd stops';
};

subtest 'what an administrator mends' => sub {
    my $pebble = Autocert::Pebble->new;
    $pebble->start;
    my $server = Autocert::Server->with_ca($pebble, config => <<'CONF');
AutocertAcceptTOS off
<VirtualHost 127.0.0.1:@https@>
    AutocertHostPolicy match [a-z]{1,9}\.terms\.test
</VirtualHost>
CONF
    ok $server->start, 'httpd starts' or return;
    my %visit = (port => $server->https, ca => $pebble->root, sni => 'a.terms.test');
    my $begin = Time::HiRes::time();
    is handshake(%visit)->{alert}, INTERNAL, 'GC-03 the terms are not accepted: internal_error';
    is handshake(%visit)->{alert}, INTERNAL, 'GC-03 again';
    cmp_ok Time::HiRes::time() - $begin, '<', 20, 'GC-03 nobody waits for a human';
    like $server->log_since(0), qr/AC0130: .*AutocertAcceptTOS/, 'GC-03 the log says what to write';
    is $pebble->orders, 0, 'GC-03 nothing is ordered';
    (my $config = $server->{config}) =~ s/AutocertAcceptTOS off\n//;
    $server->write_config($config);
    ok $server->graceful, 'accepted, and a graceful restart';
    my $seen = wait_until(LIVE_SECONDS, sub {
        my $now = https_get(%visit);
        return $now->{ok} ? $now : undef;
    }, 'the certificate');
    is $seen->{status}, 200, 'what was answered before is forgotten';
    ok $server->stop, 'httpd stops';
};

subtest 'two servers, one cache' => sub {
    my $pebble = Autocert::Pebble->new;
    $pebble->start;
    my $vhost = <<'CONF';
<VirtualHost 127.0.0.1:@https@>
    AutocertHostPolicy match [a-z]{1,9}\.two\.test
</VirtualHost>
CONF
    my $one = Autocert::Server->with_ca($pebble, config => $vhost);
    my ($http, $https) = free_ports(2);
    my $other = Autocert::Server->with_ca($pebble, http => $http, https => $https,
        vars => { shared => $one->cache }, config => "AutocertCache dir:\@shared\@\n$vhost");
    ok $one->start, 'one httpd starts' or return;
    ok $other->start, 'another starts' or return;
    my $root = $pebble->root;
    my $first = https_get(port => $one->https, ca => $root, sni => 'here.two.test');
    is $first->{status}, 200, 'a name is obtained by the one' or diag $first->{error};
    my $second = https_get(port => $other->https, ca => $root, sni => 'here.two.test');
    is $second->{status}, 200, 'and served by the other' or diag $second->{error};
    is $second->{serial}, $first->{serial}, 'with the same certificate';
    # GC-12: the CA's validation arrives at the one, whichever of them ordered.
    my $third = https_get(port => $other->https, ca => $root, sni => 'there.two.test');
    is $third->{status}, 200, 'GC-12 the other orders, the one answers the challenge' or diag $third->{error};
    is $pebble->orders, 2, 'by one order each';
    ok $_->stop, 'httpd stops' for $one, $other;
};

subtest 'around a certificate that is there' => sub {
    my $clients = make_ca('CA of clients');
    my $visitor = issue_pair($clients, ['visitor.test']);
    my %client = (cert => spit(scratch() . "/more-client.$$", $visitor->{pem}),
        key => spit(scratch() . "/more-client-key.$$", $visitor->{key_pem}, 0600));
    my ($dead, $guarded) = free_ports(2);
    my $server = Autocert::Server->new(vars => { dead => $dead, guarded => $guarded,
        clients => spit(scratch() . "/more-clients.$$", $clients->{pem}) }, config => <<'CONF');
AutocertCA https://127.0.0.1:@dead@/dir
AutocertAcceptTOS on
AutocertCache dir:@cache@
AutocertRedirect temporary
Listen 127.0.0.1:@guarded@
<VirtualHost 127.0.0.1:@https@>
    AutocertHostPolicy match [a-z]{1,9}\.there\.test
    SSLOptions +StdEnvVars
    Header always set X-Names "%{SSL_SERVER_S_DN_CN}s"
</VirtualHost>
<VirtualHost 127.0.0.1:@guarded@>
    AutocertHostPolicy match [a-z]{1,9}\.guarded\.test
    SSLVerifyClient require
    SSLCACertificateFile @clients@
</VirtualHost>
<VirtualHost 127.0.0.1:@http@>
    ServerName plain.test
</VirtualHost>
CONF
    $server->cache_put($_, cache_value(issue_pair($ca, [$_]))) for 'a.there.test', 'a.guarded.test';
    ok $server->start, 'httpd starts' or return;
    for my $tls ('1.2', '1.3') {
        my %visit = (port => $server->https, ca => $hand, sni => 'a.there.test', tls => $tls,
            session => session_cache());
        for my $what ('GC-08 a full handshake', 'a resumed one') {
            my $seen = https_get(%visit);
            is $seen->{status}, 200, "TLS $tls, $what: served with the CA down" or diag $seen->{error};
            is $seen->{headers}{'x-names'}, 'a.there.test', "TLS $tls, $what: SSL_SERVER_* show it";
        }
    }
    my $plain = http_get(port => $server->http, host => 'a.there.test', path => '/x?y');
    is $plain->{status}, 302, 'a plain request for it is redirected';
    is $plain->{headers}{location}, 'https://a.there.test/x?y', 'to https';
    is http_get(port => $server->http, host => 'b.there.test')->{status}, 200,
        'one for a name without a certificate is not';
    my %guard = (port => $guarded, ca => $hand, sni => 'a.guarded.test');
    isnt https_get(%guard)->{status}, 200, 'client certificates are still required';
    my $seen = https_get(%guard, %client);
    is $seen->{status}, 200, 'with one it is served' or diag $seen->{error};
    $seen = handshake(%guard, sni => 'b.guarded.test', alpn => ['acme-tls/1']);
    ok !$seen->{ok}, 'acme-tls/1 without a challenge: no handshake';
    ok $server->stop, 'httpd stops';
};

done_testing;
