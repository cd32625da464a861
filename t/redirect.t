# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# AutocertRedirect: plain requests for a name with a certificate that browsers may trust
# go to https, all others are answered as if it were not there; challenges come first.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Client qw(http_get http_raw https_get make_ca issue_pair cache_value);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until free_ports);

use constant {
    OBTAIN_SECONDS => 60,
    LIVE_SECONDS   => 30,
};

my $ca = make_ca('a CA by hand');

sub pair
{
    return cache_value(issue_pair($ca, [$_[0]]));
}

my $server = Autocert::Server->new(vars => { dead => scalar free_ports(1) }, config => <<'CONF');
AutocertCA https://127.0.0.1:@dead@/dir
AutocertAcceptTOS on
AutocertCache dir:@cache@
AutocertRedirect temporary
SetEnvIf X-Balancer yes autocert-no-redirect
SetEnvIf Request_URI ^/plain autocert-no-redirect
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain here.example.test missing.example.test late.example.test expired.example.test
</VirtualHost>
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain moved.example.test stays.example.test
</VirtualHost>
<VirtualHost 127.0.0.1:@http@>
    ServerName default.example.test
</VirtualHost>
<VirtualHost 127.0.0.1:@http@>
    ServerName moved.example.test
    AutocertRedirect permanent
</VirtualHost>
<VirtualHost 127.0.0.1:@http@>
    ServerName stays.example.test
    AutocertRedirect off
</VirtualHost>
CONF
$server->cache_put("$_.example.test", pair("$_.example.test")) for qw(here moved stays);
$server->cache_put('expired.example.test', cache_value(issue_pair($ca, ['expired.example.test'],
    not_before => -90_000, not_after => -3600)));
ok $server->start, 'httpd starts' or exit 1;
my $port = $server->http;

sub ask
{
    my ($host, $path, %more) = @_;
    return http_get(port => $port, host => $host, path => $path, %more);
}

for my $row (['HH-01', '/'], ['HH-01', '/foo'], ['HH-01', '/foo/bar/'], ['HH-01', '/?a=b'],
    ['HH-01', '/foo?a=b'], ['HH-02', '/foo%20bar'], ['HH-02', '/a%2Fb?x=%3F&y=/../z'],
    ['HH-02', '/%E2%82%AC']) {
    my ($id, $path) = @$row;
    for my $method ('GET', 'HEAD') {
        my $seen = ask('here.example.test', $path, method => $method);
        is $seen->{status}, 302, "$id $method $path";
        is $seen->{headers}{location}, "https://here.example.test$path", "$id $method $path: where to";
    }
}
for my $host ("here.example.test:$port", 'here.example.test:80', 'HERE.example.test',
    'here.example.test.', 'here.example.test.:8080') {
    my $seen = ask($host, '/foo?a=b');
    is $seen->{status}, 302, "HH-02 Host: $host";
    is $seen->{headers}{location}, 'https://here.example.test/foo?a=b',
        "HH-02 Host: $host: the name without a port";
}
my $text = http_raw(port => $port, request => "GET http://here.example.test:$port/foo?a=b HTTP/1.1\r\n"
        . "Host: default.example.test\r\nConnection: close\r\n\r\n");
like $text, qr{^HTTP/1\.1 302 .*^Location: https://here\.example\.test/foo\?a=b\r$}ms,
    'a request in absolute form';

for my $row (['POST', 307, 308], ['PUT', 307, 308], ['DELETE', 307, 308]) {
    my ($method, $temporary, $permanent) = @$row;
    my $seen = ask('here.example.test', '/form?a=b', method => $method, body => 'x=y');
    is $seen->{status}, $temporary, "HH-04 $method, temporary";
    is $seen->{headers}{location}, 'https://here.example.test/form?a=b', "HH-04 $method: where to";
    $seen = ask('moved.example.test', '/form', method => $method, body => 'x=y');
    is $seen->{status}, $permanent, "HH-04 $method, permanent";
    is $seen->{headers}{location}, 'https://moved.example.test/form', "HH-04 $method: where to";
}
is ask('moved.example.test', '/')->{status}, 301, 'permanent is 301';
is ask('stays.example.test', '/')->{status}, 200, 'off in the vhost that answers';

for my $row (['missing.example.test', 'a managed name without a certificate'],
    ['expired.example.test', 'one with an expired certificate'],
    ['unknown.example.test', 'a name that is not managed'], ['default.example.test', 'the vhost itself'],
    ["127.0.0.1:$port", 'an address'], ["[::1]:$port", 'HH-03 an IPv6 address with a port'],
    ['[::1]', 'HH-03 an IPv6 address']) {
    my ($host, $what) = @$row;
    my $seen = ask($host, '/');
    is $seen->{status}, 200, "$what is not redirected";
    is $seen->{headers}{location}, undef, "$what: nowhere";
}
like http_raw(port => $port, request => "GET / HTTP/1.0\r\n\r\n"), qr{^HTTP/1\.\d 200 },
    'nor a request without Host';

is ask('here.example.test', '/', headers => { 'X-Balancer' => 'yes' })->{status}, 200,
    'autocert-no-redirect, set by a header';
is ask('here.example.test', '/plain')->{status}, 404, 'autocert-no-redirect, set for a path';
is ask('here.example.test', '/', headers => { 'X-Balancer' => 'no' })->{status}, 302, 'else it is';

my $tls = https_get(port => $server->https, sni => 'here.example.test');
is $tls->{status}, 200, 'https is not redirected';
is $tls->{headers}{'strict-transport-security'}, undef, 'no HSTS is added';

$server->cache_put('tOkEn+http-01', 'tOkEn.abc');
my $challenge = ask('here.example.test', '/.well-known/acme-challenge/tOkEn');
is $challenge->{status}, 200, 'a challenge is answered before';
is $challenge->{body}, 'tOkEn.abc', 'by its answer';

is ask('late.example.test', '/')->{status}, 200, 'no certificate yet: no redirect';
$server->cache_put('late.example.test', pair('late.example.test'));
ok wait_until(LIVE_SECONDS, sub { ask('late.example.test', '/')->{status} == 302 },
    'the redirect of late.example.test'), 'as soon as there is one: redirected';
ok $server->stop, 'httpd stops';

# The certificate of a test CA is served, but nobody is sent to it.
for my $row (['test=on', 200], ['test=off', 301]) {
    my ($key, $expected) = @$row;
    my $pebble = Autocert::Pebble->new;
    $pebble->start;
    my $other = Autocert::Server->new(http => $pebble->http, https => $pebble->https,
        vars => { %{ $pebble->vars }, key => $key }, config => <<'CONF');
AutocertCA @pebble@ cafile=@cafile@ @key@
AutocertAcceptTOS on
AutocertCache dir:@cache@
AutocertRedirect permanent
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain a.example.test
</VirtualHost>
CONF
    ok $other->start, "$key: httpd starts" or exit 1;
    my %visit = (port => $other->https, sni => 'a.example.test', ca => $pebble->root);
    ok wait_until(OBTAIN_SECONDS, sub { https_get(%visit)->{ok} }, 'the certificate'),
        "$key: the certificate is served";
    my $seen = http_get(port => $other->http, host => 'a.example.test');
    is $seen->{status}, $expected,
        $key eq 'test=on' ? 'a test CA: no redirect' : 'another CA: a redirect';
    ok $other->restart, "$key: after a restart";
    $seen = http_get(port => $other->http, host => 'a.example.test');
    is $seen->{status}, $expected, "$key: the same";
    $other->stop;
    $pebble->stop_all;
}

done_testing;
