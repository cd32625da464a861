# Licensed under the Apache License, Version 2.0; see LICENSE.
# seconds: 200
#
# External account binding: a CA that makes accounts only for those who have a key of it. The key comes from a
# file or stands in the line, is sent when an account is made and never again, and is in no log.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);
use JSON::PP ();

use Autocert::Client qw(handshake http_get);
use Autocert::Events qw(events vhosts all_stored);
use Autocert::FaultProxy;
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until free_ports spit);

use constant {
    OBTAIN_SECONDS => 60,
    REFUSE_SECONDS => 30,
};

# 32 bytes with letters that differ between base64 and base64url, as Pebble wants it: without padding.
my $kid = 'kid/1+x=.';
my $key = '-_' . 'Zx9' x 13 . 'A4';
my $wrong = '_-' . 'Zx9' x 13 . 'A4';
(my $plain = $key) =~ tr{-_}{+/};

sub new_ca
{
    return Autocert::Pebble->new(config => { externalAccountBindingRequired => JSON::PP::true(),
        externalAccountMACKeys => { $kid => $key } }, @_)->start;
}

sub lines
{
    my ($keys, @names) = @_;
    return "AutocertCA \@pebble\@ cafile=\@cafile\@ $keys\nAutocertAcceptTOS on\nAutocertCache dir:\@cache\@\n"
        . vhosts(@names);
}

sub new_server
{
    my ($pebble, %arg) = @_;
    return Autocert::Server->new(http => $pebble->http, https => $pebble->https, vars => $pebble->vars,
        loglevel => 'notice autocert:debug', %arg);
}

sub accounts
{
    my ($pebble) = @_;
    my $count = () = $pebble->log =~ /There are now \d+ accounts in memory/g;
    return $count;
}

# The letters of every key above, whatever stands around them.
sub is_discreet
{
    my ($server, $what) = @_;
    return unlike $server->log_since(0), qr/Zx9Zx9/, "$what: the key is not in the log";
}

my $dir = Autocert::Server::work_dir();

subtest 'ways to give a key' => sub {
    my $pebble = new_ca();
    my $one = spit("$dir/eab-one.txt", "$kid $key\n", 0600);
    my $two = spit("$dir/eab-two.txt", "# of the CA's page\r\n\r\n  $kid\r\n\t# the key\r\n  $key=", 0600);
    my @cases = (
        ['a file of one line', "eab=$one"],
        ['a file of two lines, blank ones and comments', "eab=$two"],
        ['the line itself', "eab=$kid:$key"],
        ['F23: quotes, padding and the other alphabet', "eab=\"$kid:$plain=\""],
    );
    my $n = 0;
    for my $case (@cases) {
        my ($what, $keys) = @$case;
        my $name = 'way' . ++$n . '.example.test';
        my $server = new_server($pebble, config => lines($keys, $name));
        ok $server->start, "$what: httpd starts" or return;
        ok all_stored($server, OBTAIN_SECONDS, $name), "$what: a certificate is obtained";
        ok handshake(port => $server->https, sni => $name, ca => $pebble->root)->{ok}, "$what: and serves";
        is accounts($pebble), $n, "$what: with a new account";
        is_discreet($server, $what);
        ok $server->stop, "$what: httpd stops";
    }
};

subtest 'F22: an account that exists needs no key' => sub {
    my $pebble = new_ca();
    my ($first, $second, $third) = map { "$_.example.test" } qw(first second third);
    my $file = spit("$dir/eab-once.txt", "$kid $key\n", 0600);
    my $server = new_server($pebble, config => lines("eab=$file", $first));
    ok $server->start, 'httpd starts' or return;
    ok all_stored($server, OBTAIN_SECONDS, $first), 'a name is obtained' or return;
    ok $server->stop, 'httpd stops';
    # Many CAs take a key once: one that is used up must not be looked at again.
    spit($file, "$kid $wrong\n", 0600);
    $server->write_config(lines("eab=$file", $first, $second));
    ok $server->start, 'a restart, with a key that the CA does not know';
    ok all_stored($server, OBTAIN_SECONDS, $second), 'another name is obtained';
    # A cache from another program has no record of ours.
    ok $server->stop, 'httpd stops';
    my @records = glob $server->cache . '/.autocert/account+*';
    is unlink(@records), 1, 'the record of the account is lost, not its key';
    $server->write_config(lines("eab=$file", $first, $second, $third));
    ok $server->start, 'another restart';
    ok all_stored($server, OBTAIN_SECONDS, $third), 'the account is found by its key';
    is accounts($pebble), 1, 'there was never more than the one';
    is_discreet($server, 'restarts');
    ok $server->stop, 'httpd stops';
};

subtest 'F22: killed when the account had just been made' => sub {
    my $pebble = new_ca(env => { PEBBLE_WFE_NONCEREJECT => 0 });
    my $proxy = Autocert::FaultProxy->new(pebble => $pebble,
        rules => [{ class => 'newAccount', silent => 'after' }])->start;
    my $name = 'killed.example.test';
    my $file = spit("$dir/eab-killed.txt", "$kid $key\n", 0600);
    my $server = new_server($pebble, vars => $proxy->vars, config => lines("eab=$file", $name));
    $server->expect_crashes;
    ok $server->start, 'httpd starts' or return;
    ok $proxy->wait_for(REFUSE_SECONDS, 1, class => 'newAccount'), 'an account is made' or return;
    ok +($proxy->requests(class => 'newAccount'))[0]{payload}{externalAccountBinding}, 'with the key';
    $server->kill_all;
    # The key is spent, and the answer was lost.
    spit($file, "$kid $wrong\n", 0600);
    $proxy->clear;
    ok $server->start, 'httpd starts again' or return;
    ok all_stored($server, OBTAIN_SECONDS, $name), 'F22: the account is found, and the name obtained';
    is accounts($pebble), 1, 'F22: there is one account';
    my (undef, @later) = $proxy->requests(class => 'newAccount');
    is scalar(grep { $_->{payload}{externalAccountBinding} } @later), 0, 'F22: the key is not sent a second time';
    ok $server->stop, 'httpd stops';
};

subtest 'F23: a CA that does not say that it wants a key' => sub {
    my $pebble = new_ca();
    my $proxy = Autocert::FaultProxy->new(pebble => $pebble, edits => {
        quiet => sub { delete $_[0]{meta}{externalAccountRequired} } },
        rules => [{ class => 'directory', json => 'quiet' }])->start;
    my $name = 'quiet.example.test';
    my $server = new_server($pebble, vars => $proxy->vars, config => lines("eab=$kid:$key", $name));
    ok $server->start, 'httpd starts' or return;
    ok all_stored($server, OBTAIN_SECONDS, $name), 'F23: a key that is configured is used';
    ok $server->stop, 'httpd stops';
};

subtest 'each CA has its own' => sub {
    my $pebble = new_ca();
    my ($nobody) = free_ports(1);
    my $name = 'second-ca.example.test';
    my $file = spit("$dir/eab-second.txt", "$kid $key\n", 0600);
    my $server = new_server($pebble, config => "AutocertCA https://localhost:$nobody/dir eab=other:$wrong\n"
            . lines("eab=$file", $name));
    ok $server->start, 'httpd starts, the first CA is down' or return;
    ok all_stored($server, OBTAIN_SECONDS, $name), 'the second one gets its key and issues';
    # The line is written after the certificate is stored.
    my $event = wait_until(REFUSE_SECONDS, sub { (events($server, 'AC0110'))[0] });
    my $port = $pebble->port;
    like $event && $event->{text}, qr/^obtained from localhost:$port /, 'as the log says';
    is_discreet($server, 'two CAs');
    ok $server->stop, 'httpd stops';
};

for my $case (
    ['a wrong key', "eab=$kid:$wrong", undef],
    ['no key', '', undef],
    ['a file without a key', 'eab=@broken@', 'AC0038']) {
    my ($what, $keys, $id) = @$case;
    subtest $what => sub {
        my $pebble = new_ca();
        my $name = 'refused.example.test';
        my $broken = spit("$dir/eab-broken.txt", "# Zx9Zx9\n$kid\n", 0600);
        my $server = new_server($pebble, vars => { %{ $pebble->vars }, broken => $broken },
            config => lines($keys, $name));
        ok $server->start, 'httpd starts' or return;
        if ($id) {
            ok $server->wait_for_log(qr/\Q$id\E: autocert: localhost:\d+: the file \Q$broken\E of eab= does not/,
                REFUSE_SECONDS), 'the log says what is wrong with the file';
            for my $text ('', "# $kid $key\n", "$kid !Zx9Zx9!\n", "$kid $key Zx9Zx9\n", "$kid:$key\n") {
                my $mark = $server->mark;
                spit($broken, $text, 0600);
                ok $server->graceful, 'another such file';
                ok $server->wait_for_log(qr/\Q$id\E: .*does not hold a key id/, REFUSE_SECONDS, $mark),
                    'and the log says so';
            }
        }
        ok $server->wait_for_log(qr/AC0130: /, REFUSE_SECONDS), 'the CA cannot be used';
        my ($event) = events($server, 'AC0130');
        like $event->{text}, $keys =~ /$wrong/ ? qr/unauthorized/ : qr/eab=/, 'it says what is to do'
            or diag $event->{text};
        is http_get(port => $server->http, host => $name)->{status}, 200, 'the server serves on';
        is accounts($pebble), 0, 'no account is made';
        is_discreet($server, $what);
        $server->write_config(lines("eab=$kid:$key", $name));
        ok $server->graceful, 'the right key';
        ok all_stored($server, OBTAIN_SECONDS, $name), 'and the name is obtained';
        ok $server->stop, 'httpd stops';
    };
}

done_testing;
