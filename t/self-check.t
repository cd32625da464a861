# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Before the CA is asked, the server looks at its own answer through its own listeners, and says what is wrong
# with it; then the CA is asked all the same. Nothing is said when all is well.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Client qw(https_get);
use Autocert::Events qw(events count_events all_stored);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until);

use constant OBTAIN_SECONDS => 60;

my $pebble;
my $server;

# One server with a CA for these lines and challenges of the vhost; more arguments are the server's.
sub start_server
{
    my ($challenges, $lines, %arg) = @_;
    $pebble = Autocert::Pebble->new->start;
    $server = Autocert::Server->with_ca($pebble, test_modules => ['answer'], %arg, config => <<"CONF");
$lines
<VirtualHost 127.0.0.1:\@https\@>
    AutocertDomain name.example.test
    AutocertChallenges $challenges
</VirtualHost>
CONF
    return ok $server->start, 'httpd starts';
}

sub stop_server
{
    ok $server->stop, 'httpd stops';
    $pebble->stop_all;
    return;
}

sub obtained
{
    my ($type) = @_;
    all_stored($server, OBTAIN_SECONDS, 'name.example.test') or return fail 'it is obtained';
    my $event = wait_until(OBTAIN_SECONDS, sub { (events($server, 'AC0110'))[0] });
    return like $event && $event->{text}, qr/^obtained from \S+ by \Q$type\E in /, "it is obtained by $type";
}

# The CA was asked, and has its own words.
sub refused
{
    my ($type) = @_;
    my $event = wait_until(OBTAIN_SECONDS, sub { (events($server, 'AC0120'))[0] });
    return like $event && $event->{text}, qr/^not obtained from localhost:\d+: \w+: \Q$type\E \S/,
        'the CA was asked all the same, and refuses';
}

# One line with the id, and none with the other.
sub noticed
{
    my ($id, $words) = @_;
    my ($event) = events($server, $id);
    my $other = $id eq 'AC0240' ? 'AC0241' : 'AC0240';
    like $event && $event->{text}, $words, "$id says what is wrong";
    is $event && $event->{name}, 'name.example.test', "$id: for which name";
    is $event && $event->{level}, 'warn', "$id: as a warning";
    is count_events($server, $id), 1, "$id: once";
    is count_events($server, $other), 0, "not $other";
    return;
}

for my $type ('http-01', 'tls-alpn-01') {
    subtest "$type, all is well" => sub {
        start_server($type, '') or return;
        obtained($type);
        is count_events($server, $_), 0, "no $_" for qw(AC0240 AC0241);
        stop_server();
    };
}

# Whatever turns visitors away does not turn this away.
subtest 'http-01 behind a redirect to https' => sub {
    start_server('http-01', <<'CONF') or return;
<VirtualHost 127.0.0.1:@http@>
    ServerName name.example.test
    Redirect / https://name.example.test/
</VirtualHost>
CONF
    obtained('http-01');
    is count_events($server, 'AC0240'), 0, 'no AC0240';
    stop_server();
};

subtest 'no listener for plain http' => sub {
    start_server('http-01', '', http => 0) or return;
    refused('http-01');
    noticed('AC0240', qr/listen/i);
    stop_server();
};

for my $row (['missing', qr/\b404\b/], ['loop', qr/redirect/i], ['other', qr/another server's words|other|answer/i]) {
    my ($how, $words) = @$row;
    subtest "another module answers http-01: $how" => sub {
        start_server('http-01', "TestAnswer $how") or return;
        refused('http-01');
        noticed('AC0240', $words);
        stop_server();
    };
}

subtest 'what is wrong for the server only' => sub {
    start_server('http-01', 'TestAnswer missing except LetsEncrypt') or return;
    obtained('http-01');
    noticed('AC0240', qr/\b404\b/);
    stop_server();
};

subtest 'something else at the TLS port' => sub {
    start_server('tls-alpn-01 http-01', 'TestAnswerClose @https@') or return;
    obtained('http-01');
    noticed('AC0241', qr/127\.0\.0\.1:\d+/);
    stop_server();
};

subtest 'no listener for TLS' => sub {
    start_server('tls-alpn-01', "Listen 127.0.0.1:\@http\@", listen => 0) or return;
    refused('tls-alpn-01');
    noticed('AC0241', qr/listen/i);
    stop_server();
};

done_testing;
