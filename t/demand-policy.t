# Licensed under the Apache License, Version 2.0; see LICENSE.
# seconds: 300
#
# AutocertHostPolicy file, match, any, none, and other modules' rules: which names that nobody lists are
# obtained; lines of a vhost replace those of the server; a file is read again when it changes.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Client qw(https_get handshake http_get);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until spit scratch);

use constant {
    INTERNAL     => 80,
    NO_NAME      => 112,
    LIVE_SECONDS => 30,
    MANY         => 200_000,
};

my $pebble = Autocert::Pebble->new;
$pebble->start;
my $root = $pebble->root;

sub new_server
{
    my ($config, %arg) = @_;
    return Autocert::Server->with_ca($pebble, wait => '20s', %arg, config => $config);
}

sub allowed
{
    my ($server, $name, $what) = @_;
    my $seen = https_get(port => $server->https, ca => $root, sni => $name);
    is $seen->{status}, 200, "$what: $name" or diag $seen->{error};
    return;
}

sub refused
{
    my ($server, $name, $what) = @_;
    my $seen = handshake(port => $server->https, ca => $root, sni => $name);
    is $seen->{alert}, NO_NAME, "$what: not $name" or diag $seen->{error} // 'served';
    return;
}

subtest 'file' => sub {
    my $file = spit(scratch() . "/names.$$", "# customers\nOne.File.test\n\n  b\x{c3}\x{bc}cher.file.test  # a remark\n"
        . "*.wild.test\nno name at all\n");
    my $server = new_server(<<'CONF', vars => { file => $file });
<VirtualHost 127.0.0.1:@https@>
    AutocertHostPolicy file @file@
</VirtualHost>
CONF
    ok $server->start, 'httpd starts' or return;
    like $server->log_since(0), qr/AC0160: .*: 3 names read/, 'the log says how many names';
    like $server->log_since(0), qr/AC0162: .*names\.\d+: 1 line cannot be used, the first is line 6: "no name at all" /,
        'and which line is none';
    allowed($server, 'one.file.test', 'a name');
    allowed($server, 'ONE.file.test', 'in capitals');
    allowed($server, 'xn--bcher-kva.file.test', 'an internationalised name');
    allowed($server, 'a.wild.test', 'one label below a suffix');
    refused($server, 'a.b.wild.test', 'two labels below it');
    refused($server, 'wild.test', 'the suffix itself');
    refused($server, 'two.file.test', 'one that is not listed');
    my $pid = $server->pid;
    my $orders = $pebble->orders;

    my $mark = $server->mark;
    spit("$file.new", "two.file.test\n");
    rename "$file.new", $file or die "$file: $!\n";
    ok $server->wait_for_log(qr/AC0160: .*: 1 name read/, LIVE_SECONDS, $mark), 'a changed file is read again';
    allowed($server, 'two.file.test', 'a new name');
    refused($server, 'b.wild.test', 'what is listed no more');
    is $server->pid, $pid, 'without a restart';

    unlink $file or die "$file: $!\n";
    ok $server->wait_for_log(qr/AC0161: .*cannot be read/, LIVE_SECONDS, $mark), 'a file that is gone is reported';
    allowed($server, 'two.file.test', 'and what was read before stays');
    spit($file, join '', map { "host$_.many.test\n" } 1 .. MANY);
    ok $server->wait_for_log(qr/AC0160: .*: 200000 names read/, LIVE_SECONDS, $mark), 'a file may be large';
    allowed($server, 'host1.many.test', 'its first name');
    allowed($server, 'host' . MANY . '.many.test', 'its last name');
    refused($server, 'host' . (MANY + 1) . '.many.test', 'no other');
    is $pebble->orders, $orders + 3, 'one order for each new name';
    ok $server->stop, 'httpd stops';
};

subtest 'preload' => sub {
    my @names = map { "ahead$_.test" } 1 .. 5;
    my $file = spit(scratch() . "/preload.$$", join '', map { "$_\n" } @names, '*.later.test');
    my $server = new_server(<<'CONF', vars => { file => $file });
<VirtualHost 127.0.0.1:@https@>
    AutocertHostPolicy file @file@ preload
</VirtualHost>
CONF
    ok $server->start, 'httpd starts' or return;
    ok wait_until(LIVE_SECONDS, sub { !grep { !-s $server->cache_file($_) } @names }, 'the certificates'),
        'names of a file with preload are obtained without a visit';
    my $orders = $pebble->orders;
    allowed($server, $names[0], 'a name that was obtained ahead');
    is $pebble->orders, $orders, 'with no further order';
    spit($file, join '', map { "$_\n" } @names, 'ahead6.test');
    ok wait_until(LIVE_SECONDS, sub { -s $server->cache_file('ahead6.test') }, 'the certificate'),
        'a name that is added is obtained too';
    ok $server->stop, 'httpd stops';
};

subtest 'match, inheritance, none, several lines' => sub {
    my ($first, $second, $third) = Autocert::Util::free_ports(3);
    my $server = new_server(<<'CONF', vars => { pa => $first, pb => $second, pc => $third });
Listen 127.0.0.1:@pa@
Listen 127.0.0.1:@pb@
Listen 127.0.0.1:@pc@
AutocertHostPolicy match [a-z]{1,9}\.shared\.test
<VirtualHost 127.0.0.1:@https@>
    AutocertHostPolicy match [a-z]{1,9}\.own\.test
    AutocertHostPolicy match shop[0-9]{1,3}\.other\.test
</VirtualHost>
<VirtualHost 127.0.0.1:@pa@>
    AutocertEngine on
    ServerName listed.test
</VirtualHost>
<VirtualHost 127.0.0.1:@pb@>
    AutocertDomain listed2.test
    AutocertHostPolicy none
</VirtualHost>
<VirtualHost 127.0.0.1:@pc@>
    ServerName plain.test
</VirtualHost>
CONF
    ok $server->start, 'httpd starts' or return;
    allowed($server, 'a.own.test', 'a pattern');
    allowed($server, 'Shop12.Other.test', 'another line, any case');
    for my $not ('a.shared.test', 'xa.own.test.evil.test', 'shop1234.other.test', 'a.b.own.test', 'evil.test') {
        refused($server, $not, 'patterns are anchored, and replace those of the server');
    }
    my $see = sub {
        my ($port, $name) = @_;
        return handshake(port => $port, ca => $root, sni => $name);
    };
    refused($server, 'b.shared.test', 'a line of the server does not count where the vhost has its own');
    # The CA looks at one port; what another port's vhost allows can only be asked for, not proved.
    is $see->($first, 'b.own.test')->{alert}, NO_NAME, 'an inheriting vhost has the lines of the server only';
    is $see->($second, 'c.shared.test')->{alert}, NO_NAME, 'none clears inherited lines';
    my $plain = http_get(port => $third, host => 'plain.test');
    is $plain->{status}, 200, 'inherited lines alone manage nothing: that vhost speaks no TLS';
    ok $server->stop, 'httpd stops';
};

subtest 'any' => sub {
    my $server = new_server(<<'CONF');
AutocertClientLimit 20 1h
<VirtualHost 127.0.0.1:@https@>
    AutocertHostPolicy any
</VirtualHost>
CONF
    ok $server->start, 'httpd starts' or return;
    allowed($server, 'what.ever.test', 'any name');
    refused($server, 'www.www.ever.test', 'F21: but none that is made up');
    ok $server->stop, 'httpd stops';
};

subtest 'another module' => sub {
    my $server = new_server(<<'CONF', test_modules => ['policy']);
<VirtualHost 127.0.0.1:@https@>
    AutocertHostPolicy match [a-z]{1,9}\.line\.test
    TestPolicyAllow hook.test
    TestPolicyDeny denied.hook.test
</VirtualHost>
CONF
    ok $server->start, 'httpd starts' or return;
    allowed($server, 'a.line.test', 'the line');
    allowed($server, 'a.hook.test', 'the hook');
    refused($server, 'a.denied.hook.test', 'a hook that says no');
    refused($server, 'a.other.test', 'a hook without an opinion');
    ok $server->stop, 'httpd stops';
};

subtest 'the placeholder' => sub {
    my $dead = Autocert::Util::free_ports(1);
    my $server = Autocert::Server->new(vars => { dead => $dead }, config => <<'CONF');
AutocertCA https://127.0.0.1:@dead@/dir
AutocertAcceptTOS on
AutocertCache dir:@cache@
AutocertWait 300ms
<VirtualHost 127.0.0.1:@https@>
    AutocertHostPolicy match [a-z]{1,9}\.page\.test
    AutocertFallback placeholder
</VirtualHost>
CONF
    ok $server->start, 'httpd starts' or return;
    my $seen = https_get(port => $server->https, sni => 'new.page.test');
    is $seen->{status}, 503, 'not obtained in time: a page' or diag $seen->{error};
    like $seen->{body}, qr/new\.page\.test.*being obtained/s, 'that names the host and says why';
    like $seen->{headers}{'retry-after'}, qr/^\d+$/, 'Retry-After';
    ok $server->stop, 'httpd stops';
};

done_testing;
