# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# tls-alpn-01 and http-01, each alone, on ports that are not 443 and 80, for virtual hosts
# that turn visitors away: by TLS version, client certificate, proxy, password, redirect or
# rule. Each gets its certificate and still does what it is told to.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Client qw(handshake https_get http_get curl make_ca issue_pair);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until free_ports spit scratch);

use constant OBTAIN_SECONDS => 60;

# Lines of the https and of the http vhost; what a visitor gets from either.
my @kinds = (
    { kind => 'plain', lines => '', https => 200, http => 200 },
    { kind => 'tls12', lines => 'SSLProtocol -all +TLSv1.2', https => 200, tls => '1.2' },
    { kind => 'tls13', lines => 'SSLProtocol -all +TLSv1.3', https => 200, tls => '1.3' },
    { kind => 'client', lines => "SSLVerifyClient require\nSSLCACertificateFile \@clients\@",
        https => undef },
    { kind => 'proxy', both => "ProxyPass / http://127.0.0.1:\@dead\@/", https => 503, http => 503 },
    { kind => 'password', both => "<Location />\nAuthType Basic\nAuthName x\n"
            . "AuthUserFile \@clients\@\nRequire valid-user\n</Location>", https => 401, http => 401 },
    { kind => 'redirect', both => 'Redirect / https://elsewhere.example.test/', https => 302,
        http => 302 },
    { kind => 'forbid', both => "RewriteEngine on\nRewriteRule ^ - [F]", https => 403, http => 403 },
    { kind => 'h2', lines => 'Protocols h2 http/1.1', https => 200 },
);
my %types = (alpn => 'tls-alpn-01', http => 'http-01');

my $config = <<'CONF';
AutocertCA @pebble@ cafile=@cafile@
AutocertAcceptTOS on
AutocertCache dir:@cache@
CONF
my $other_vhost = <<'CONF';
<VirtualHost 127.0.0.1:@https@>
    ServerName static.example.test
    SSLEngine on
    SSLCertificateFile @pair@
    SSLCertificateKeyFile @key@
    Protocols h2 http/1.1
</VirtualHost>
CONF
for my $kind (@kinds) {
    my $lines = $kind->{lines} // $kind->{both};
    my $plain = $kind->{both} // '';
    for my $short (sort keys %types) {
        $config .= <<"CONF";
<VirtualHost 127.0.0.1:\@https\@>
AutocertDomain $short-$kind->{kind}.example.test
AutocertChallenges $types{$short}
$lines
</VirtualHost>
<VirtualHost 127.0.0.1:\@http\@>
ServerName $short-$kind->{kind}.example.test
$plain
</VirtualHost>
CONF
    }
}

my $clients = make_ca('CA of clients');
my $visitor = issue_pair($clients, ['visitor.example.test']);
my $stem = scratch() . "/challenges.$$";
my $static = issue_pair($clients, ['static.example.test']);
my %file = (
    clients => spit("$stem-clients", $clients->{pem}),
    pair => spit("$stem-pair", $static->{pem}), key => spit("$stem-key", $static->{key_pem}, 0600),
    visitor => spit("$stem-visitor", $visitor->{pem}),
    visitor_key => spit("$stem-visitor-key", $visitor->{key_pem}, 0600),
);
my $pebble = Autocert::Pebble->new;
$pebble->start;
my $server = Autocert::Server->new(
    http => $pebble->http, https => $pebble->https,
    modules => [qw(proxy proxy_http authn_core authn_file auth_basic authz_user)],
    vars => { %{ $pebble->vars }, %file, dead => scalar free_ports(1) },
    config => $config . $other_vhost);
my ($status, $output) = $server->configtest;
is $status, 0, 'the configuration is good' or diag $output;
ok $server->start, 'httpd starts' or exit 1;
my $root = $pebble->root;

for my $kind (@kinds) {
    for my $short (sort keys %types) {
        my $name = "$short-$kind->{kind}.example.test";
        my %visit = (port => $server->https, sni => $name, ca => $root);
        my $got = $server->wait_for_log(
            qr/AC0110: autocert: \Q$name\E: obtained from \S+ by (\S+) in/, OBTAIN_SECONDS);
        is $got, $types{$short},
            ($short eq 'alpn' ? 'GC-01' : 'GC-02 F13') . " $name: obtained by $types{$short}";
        my $seen = https_get(%visit);
        if (defined $kind->{https}) {
            ok $seen->{ok}, "$name: is served" or diag $seen->{error};
            is $seen->{status}, $kind->{https}, ($short eq 'alpn' ? 'EE-01' : 'EE-02')
                . " $name: answers as configured";
            is_deeply $seen->{names}, [$name], "$name: with its certificate";
        }
        else {
            isnt $seen->{status}, 200, "$name: nobody gets in without a client certificate";
            $seen = https_get(%visit, cert => $file{visitor}, key => $file{visitor_key});
            is $seen->{status}, 200, "$name: with one they do" or diag $seen->{error};
        }
        if (my $tls = $kind->{tls}) {
            my $other = handshake(%visit, tls => $tls eq '1.2' ? '1.3' : '1.2');
            ok !$other->{ok}, "$name: only with TLS $tls";
            is $seen->{version}, $tls eq '1.2' ? 'TLSv1_2' : 'TLSv1_3', "$name: which it is";
        }
        if (defined $kind->{http}) {
            my $plain = http_get(port => $server->http, host => $name);
            is $plain->{status}, $kind->{http}, "$name: plain http answers as configured";
        }
    }
}

for my $name ('alpn-h2.example.test', 'http-h2.example.test') {
    my ($code, $text) = curl('--http2', '--cacert', $root, '-o', '/dev/null', '-w',
        '%{http_version} %{http_code}', "https://$name:" . $server->https . '/');
    is $code, 0, "$name: curl verifies it" or diag $text;
    is $text, '2 200', "$name: over HTTP/2";
    my $managed = https_get(port => $server->https, sni => $name);
    my $static_seen = https_get(port => $server->https, sni => 'static.example.test');
    is $static_seen->{status}, 200, 'a vhost that is not managed is served';
    is $managed->{headers}{upgrade}, $static_seen->{headers}{upgrade},
        "$name: the Upgrade header is that of a vhost that is not managed";
    my $both = handshake(port => $server->https, sni => $name, ca => $root,
        alpn => ['acme-tls/1', 'h2']);
    is $both->{alpn}, 'h2', 'X-17 F44 acme-tls/1 and h2: HTTP/2' or diag $both->{error};
    is_deeply $both->{names}, [$name], 'X-17 with the ordinary certificate';
    # httpd ignores what it does not know and goes on with http/1.1, which such a client
    # need not accept; either way it is a client like any other.
    handshake(port => $server->https, sni => $name, alpn => ['foo']);
}
unlike $server->access_log, qr/acme-tls/, 'nothing was asked over acme-tls/1';
is $pebble->orders, 2 * @kinds, 'one order for each name, none for odd clients';

done_testing;
