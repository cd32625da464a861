# Licensed under the Apache License, Version 2.0; see LICENSE.
# mpm: all
#
# The tools of the other tests do what they say: the endpoint of "AutocertHostPolicy ask"
# and the httpd modules of t/modules. Without the module under test.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use IO::Socket::INET ();
use IO::Socket::UNIX ();
use Time::HiRes ();

use Autocert::Client qw(http_raw make_ca issue_pair);
use Autocert::Endpoint;
use Autocert::Server;
use Autocert::Util qw(wait_until slurp spit run_program can_connect);

use constant {
    READ_SECONDS => 10,
    DELAY        => 1,
};

# --- The endpoint ---

my $endpoint = Autocert::Endpoint->new(yes => ['a.example.test']);

sub question
{
    my ($name, $ip) = @_;
    return 'GET /ok?domain=' . $name . (defined $ip ? "&ip=$ip" : '')
        . " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
}

sub ask
{
    my ($name, $ip) = @_;
    my $answer = http_raw(port => $endpoint->port, timeout => READ_SECONDS,
        request => question($name, $ip)) // return 'refused';
    return $answer =~ m{\AHTTP/1\.1 (\d{3}) } ? $1 : $answer;
}

like $endpoint->url('/ok?a=b'), qr{\Ahttp://127\.0\.0\.1:\d+/ok\?a=b\z}, 'the URL';
is ask('a.example.test', '2001%3adb8::7'), 200, 'yes';
is ask('b.example.test'), 404, 'no';
is ask('a.example.test.invalid'), 404, 'a canary: no';
my @asked = $endpoint->questions;
is_deeply [map { [@$_{qw(method path query domain ip answer)}] } @asked],
    [['GET', '/ok', 'domain=a.example.test&ip=2001%3adb8::7', 'a.example.test', '2001:db8::7', 200],
     ['GET', '/ok', 'domain=b.example.test', 'b.example.test', undef, 404]],
    'both are written down';
is_deeply [$endpoint->domains], ['a.example.test', 'b.example.test'], 'or their names alone';
is scalar($endpoint->asked), 3, 'with the canary there are three';
is scalar($endpoint->questions('b.example.test')), 1, 'questions about one name';
cmp_ok $asked[0]{time}, '<=', $asked[1]{time}, 'with their times';
is $asked[0]{headers}{host}, 'localhost', 'and headers';

$endpoint->set(yes => qr/\A[ab]\.example\.test\z/, yes_status => 204, no_status => 403,
    headers => { 'Cache-Control' => 'max-age=7' });
is ask('b.example.test'), 204, 'an expression, another status for yes';
is ask('c.example.test'), 403, 'and for no';
like http_raw(port => $endpoint->port, request => question('a.example.test')),
    qr/\r\nCache-Control: max-age=7\r\n/, 'headers of the answer';
$endpoint->set(yes => '.', names => { 'no.example.test' => { yes => [] },
    'bad.example.test' => { mode => 'garbage' }, 'odd.example.test' => { status => 302 } });
is ask('anything.example.test'), 200, 'all names, settings are replaced';
is ask('x.invalid'), 200, 'canaries too';
is ask('no.example.test'), 404, 'one name has rules of its own';
is ask('odd.example.test'), 302, 'a status of its own';
unlike ask('bad.example.test'), qr/\A\d/, 'garbage is no answer';
$endpoint->set(yes => '.', status => 500);
is ask('a.example.test'), 500, 'one status for everything';
is eval { $endpoint->set(mode => 'sing'); 1 }, undef, 'what is misspelt is an error';

subtest 'an answer that is late keeps nobody else waiting' => sub {
    $endpoint->set(yes => '.', names => { 'late.example.test' => { delay => DELAY } });
    my $late = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $endpoint->port);
    my $begin = Time::HiRes::time();
    print {$late} question('late.example.test');
    $late->flush;
    ok $endpoint->wait_for_question('late.example.test'), 'the question is there';
    is ask('a.example.test'), 200, 'another one is answered';
    like readline $late, qr/\AHTTP\/1\.1 200 /, 'then the late one';
    cmp_ok Time::HiRes::time() - $begin, '>=', DELAY, 'not before its time';
};

subtest 'modes' => sub {
    $endpoint->set(mode => 'close');
    is ask('a.example.test'), '', 'close: nothing comes';
    for my $mode (qw(hang drip endless)) {
        $endpoint->set(yes => '.', mode => $mode);
        my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $endpoint->port);
        print {$socket} question("$mode.example.test");
        $socket->flush;
        ok $endpoint->wait_for_question("$mode.example.test"), "$mode: the question is there";
        my $text = '';
        if ($mode ne 'hang') {
            my $enough = $mode eq 'drip' ? qr/\r\nX-Drip: xxx/ : qr/\r\n\r\nyes\nx{50000}/;
            ok wait_until(READ_SECONDS, sub {
                sysread $socket, $text, 65_536, length $text;
                return $text =~ $enough;
            }), "$mode: more and more comes" or diag substr $text, 0, 200;
        }
        $endpoint->set(yes => '.');
        is ask('a.example.test'), 200, "$mode: others are answered meanwhile";
        $socket->blocking(0);
        # What the kernel still holds, and then that the end has not come.
        my ($got, $last);
        1 while $got = sysread $socket, $last, 65_536;
        ok !defined $got, "$mode: the connection stays open";
    }
};

$endpoint->stop;
ok !can_connect($endpoint->port), 'stopped: connections are refused';
$endpoint->start;
is ask('a.example.test'), 200, 'started again, with its settings';

subtest 'several questions on one connection, by a Unix socket' => sub {
    my $other = Autocert::Endpoint->new(socket => 1, yes => '.');
    my ($path, $url) = $other->url('/ok?key=1') =~ m{\Aunix:(/[^|]+)\|(.*)\z};
    is $url, 'http://localhost/ok?key=1', 'the URL';
    is sprintf('%04o', (stat $path)[2] & 0777), '0777', 'everybody may connect';
    my ($status, $text) = run_program(['curl', '-sS', '--noproxy', '*', '--unix-socket', $path,
        '-w', '%{num_connects}', "$url&domain=a.example.test", "$url&domain=b.example.test"]);
    is $text, "yes\n1yes\n0", 'two answers, one connection' or diag $status;
    is_deeply [map { $_->{query} } $other->questions],
        [map { "key=1&domain=$_.example.test" } 'a', 'b'], 'the whole query is written down';
};

# --- Client addresses ---

my $pair = issue_pair(make_ca('a CA'), ['a.example.test']);
my $server = Autocert::Server->new(module => 0, test_modules => ['peer', 'policy'],
    loglevel => 'info ssl:debug test_peer:debug', config => sub {
    my ($self) = @_;
    my $stem = $self->root . '/conf/pair';
    spit("$stem.pem", $pair->{pem});
    spit("$stem.key", $pair->{key_pem}, 0600);
    return <<"CONF";
TestPolicyAllow example.test example.org
TestPolicyDeny refused.example.test
CustomLog \@logs\@/clients "%{c}a %a"
<VirtualHost 127.0.0.1:\@https\@>
    ServerName a.example.test
    SSLEngine on
    SSLCertificateFile $stem.pem
    SSLCertificateKeyFile $stem.key
    TestPolicyAllow example.net
</VirtualHost>
CONF
});
ok $server->start, 'httpd starts with both modules, and without mod_autocert' or exit 1;

my %plays = (
    '127.128.0.1'     => '2001:db8:128:1::1',
    '127.128.255.254' => '2001:db8:128:fffe::1',
    '127.129.1.2'     => '2001:db8:102::1',
    '127.130.51.100'  => '198.51.100.1',
    '127.127.1.2'     => '127.127.1.2',
    '127.0.0.1'       => '127.0.0.1',
);
for my $from (sort keys %plays) {
    my $mark = $server->mark;
    my $lines = () = (slurp($server->root . '/logs/clients') // '') =~ /\n/g;
    my ($status, $text) = run_program(['curl', '-sSk', '--noproxy', '*', '--interface', $from,
        '--resolve', 'a.example.test:' . $server->https . ':127.0.0.1',
        'https://a.example.test:' . $server->https . '/']);
    is $status, 0, "$from: served" or diag $text;
    # Written by mod_ssl when it has read the client's hello: what a certificate callback sees.
    my $seen = $server->wait_for_log(
        qr/\[client (\S+):\d+\] AH02043: SSL virtual host for servername a/, 10, $mark) // '';
    is $seen, $plays{$from}, "$from: in the handshake";
    my $logged = wait_until(10, sub {
        return ((slurp($server->root . '/logs/clients') // '') =~ /([^\n]+)\n/g)[$lines];
    });
    is $logged, "$plays{$from} $plays{$from}", "$from: in the request";
}

my ($status, $output) = $server->write_config(
    $server->{config}->($server) . "TestPolicyDeny .x\n")->configtest;
isnt $status, 0, 'a suffix has no dot before it';
like $output, qr/TestPolicyDeny: write a suffix/, 'and httpd says so';

done_testing;
