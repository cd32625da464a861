# Licensed under the Apache License, Version 2.0; see LICENSE.
# mpm: all
#
# AutocertDNSCommand: what its program is given, and programs that hang, fail, ignore signals, talk too much or
# leave processes behind: each is ended and reported, costs no validation, and is in nobody's way.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Dns;
use Autocert::DnsCommand;
use Autocert::Events qw(events count_events all_stored ledger);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until process_lives spit slurp);

use constant {
    OBTAIN_SECONDS => 60,
    FIRST_WAIT     => 60,         # seconds until a name is tried again
    LOG_MAX        => 100_000,    # bytes
    HANGING        => 20,         # names, more than there are workers
    AT_ONCE        => 8,          # that are obtained at the same time when DNS may prove them
    STOP_SECONDS   => 5,
};

my $pebble = Autocert::Pebble->new->start;

sub new_server
{
    my ($command, $config, %vars) = @_;
    return Autocert::Server->with_ca($pebble, vars => { command => $command->program, %vars },
        loglevel => 'notice autocert:debug', config => $config);
}

sub dns_vhost
{
    my ($name, $line) = @_;
    return <<"CONF";
<VirtualHost 127.0.0.1:\@https\@>
    AutocertDomain $name
    AutocertChallenges dns-01
    AutocertDNSCommand $line
</VirtualHost>
CONF
}

sub failure
{
    my ($server, $name, $mark) = @_;
    return wait_until(OBTAIN_SECONDS, sub {
        (grep { ($_->{name} // '') eq $name } events($server, 'AC0120', $mark))[0];
    }, "AC0120 for $name");
}

subtest 'a good one' => sub {
    my $command = Autocert::DnsCommand->new(dns => $pebble->{dns});
    my $secret = "tsig key 1\nc2VjcmV0c2VjcmV0\n";
    my $server = new_server($command, dns_vhost('good.example.test',
        '@command@ set --zone=example.test "two words" \'$HOME;*\' "" secret=conf/dns.secret wait=0 timeout=20s'));
    spit($server->root . '/conf/dns.secret', $secret, 0600);
    local $ENV{LEAK} = 'of the environment of httpd';
    ok $server->start, 'httpd starts' or return;
    ok all_stored($server, OBTAIN_SECONDS, 'good.example.test'), 'the name is obtained' or return;
    ok wait_until(10, sub { $command->runs('cleanup') && !$command->values_left }), 'and all cleaned up';
    my ($present, $cleanup, @more) = $command->runs;
    is scalar(@more), 0, 'it ran twice';
    my ($value) = $present->{argv}[-1];
    like $value, qr/^[A-Za-z0-9_-]{43}$/, 'the value is base64url of a SHA-256';
    my @own = ('set', '--zone=example.test', 'two words', '$HOME;*', '');
    is_deeply $present->{argv}, [@own, 'present', '_acme-challenge.good.example.test.', $value],
        'its arguments, word for word, then "present", name and value';
    is_deeply $cleanup->{argv}, [@own, 'cleanup', '_acme-challenge.good.example.test.', $value],
        'the same to clean up';
    for my $run ($present, $cleanup) {
        my $action = $run->{argv}[-3];
        is_deeply [sort keys %{ $run->{env} }], [qw(AUTOCERT_NAME LANG PATH)], "$action: its environment";
        is $run->{env}{AUTOCERT_NAME}, 'good.example.test', "$action: AUTOCERT_NAME";
        is $run->{env}{LANG}, 'C', "$action: LANG";
        like $run->{env}{PATH}, qr{^/\S+$}, "$action: PATH";
        is $run->{stdin}, $secret, "$action: the secret on standard input";
        is $run->{cwd}, '/', "$action: in /";
        is $run->{uid}, (getpwnam $server->user)[2], "$action: as User";
        ok $run->{leads}, "$action: as leader of a process group";
        is scalar(@{ $run->{files} }), 3, "$action: with no other files than standard input, output and errors"
            or diag "@{ $run->{files} }";
        # But those of the C library's own (32 and 33), which no call changes.
        like $run->{blocked}, qr/^0+[01][08]0{7}$/, "$action: with no signal blocked";
        # Perl itself may ignore SIGFPE.
        like $run->{ignored}, qr/^0+[01][08]0{5}[08]0$/, "$action: and none ignored";
    }
    is count_events($server, 'AC0250'), 2, 'the log tells of both runs';
    is count_events($server, 'AC0251') + count_events($server, 'AC0252'), 0, 'and of no failure';
    unlike $server->log_since(0), qr/c2VjcmV0|tsig key/, 'nothing of the secret is in the log';

    spit($server->root . '/conf/dns.secret', "another key\n", 0600);
    $server->write_config($server->{config} =~ s/AutocertDomain \K/another.example.test /r);
    ok $server->graceful, 'the secret changes' or return;
    ok all_stored($server, OBTAIN_SECONDS, 'another.example.test'), 'one more name is obtained';
    is_deeply [map { $_->{stdin} } grep { $_->{env}{AUTOCERT_NAME} eq 'another.example.test' } $command->runs('present')],
        ["another key\n"], 'with the new secret';
    ok $server->stop, 'httpd stops';
};

subtest 'bad ones' => sub {
    my $command = Autocert::DnsCommand->new(dns => $pebble->{dns});
    my $nothing = spit($command->dir . '/nothing', "#!/no/such/interpreter\n", 0755);
    my $closed = $command->dir . '/closed';
    mkdir $closed, 0700 or die "$closed: $!\n";
    spit("$closed/program", "#!/bin/sh\nexit 0\n", 0755);
    # What the log has to say, the line, and whether it runs at all.
    my $late = qr/did not end within 1 s and was ended/;
    my %bad = (
        hang => [$late, '@command@ hang timeout=1s', 1],
        stubborn => [$late, '@command@ stubborn timeout=1s', 1],
        fail => [qr/exit status 3.*the provider says no/, '@command@ fail', 1],
        flood => [qr/exit status 4/, '@command@ flood', 1],
        nothing => [qr/cannot be started: No such file/, $nothing, 0],
        $> == 0 ? (closed => [qr/cannot be started: Permission denied/, "$closed/program", 0]) : (),
    );
    my @names = map { "$_.example.test" } sort keys %bad;
    my $lines = join '', map { dns_vhost($names[$_], (map { $bad{$_}[1] } sort keys %bad)[$_] . ' wait=0') }
        0 .. $#names;
    my $server = new_server($command, $lines . <<'CONF');
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain other.example.test
</VirtualHost>
CONF
    my $orders = $pebble->orders;
    my $mark_ca = $pebble->mark;
    ok $server->start, 'httpd starts' or return;
    ok all_stored($server, OBTAIN_SECONDS, 'other.example.test'), 'a name of another vhost is obtained';
    for my $kind (sort keys %bad) {
        my $name = "$kind.example.test";
        my $failed = failure($server, $name) or next;
        like $failed->{text}, qr/^not obtained from localhost:\d+: .*next try /, "$kind: the name is not obtained";
        like $failed->{text}, $bad{$kind}[0], "$kind: and the log says why";
        if ($bad{$kind}[2]) {
            my ($line) = grep { ($_->{name} // '') eq $name } events($server, 'AC0251');
            like $line && $line->{text}, qr/program present _acme-challenge\.$kind\.example\.test\. .*$bad{$kind}[0]/,
                "$kind: what was run, too";
        }
        my $state = ledger($server, $name);
        is $state->{failures}, 1, "$kind: one failure";
        cmp_ok $state->{next}, '>', $failed->{time} + FIRST_WAIT - 2, "$kind: it is not tried again at once";
    }
    my ($flood) = map { $_->{text} } grep { ($_->{name} // '') eq 'flood.example.test' } events($server, 'AC0120');
    like $flood, qr/the zone is locked/, 'flood: the last line that it printed is told';
    cmp_ok length($server->log_since(0)), '<', LOG_MAX, 'megabytes of output do not fill the log';
    is count_events($server, 'AC0120'), @names, 'each failed once';
    is $pebble->orders - $orders, @names + 1, 'an order each';
    is scalar(grep { /example\.test/ && !/other\.example/ } $pebble->log($mark_ca) =~ /Attempting to validate.*/g), 0,
        'the CA was not asked to look';
    my @left = grep { process_lives($_->{pid}) } $command->runs;
    is scalar(@left), 0, 'no program runs any more';

    # A change of its line makes up for the failure, and the orders go on.
    (my $better = $server->{config}) =~ s/AutocertDNSCommand .*/AutocertDNSCommand \@command\@ wait=0/g;
    $server->write_config($better);
    ok $server->restart, 'all have a good one now' or return;
    ok all_stored($server, OBTAIN_SECONDS, @names), 'all are obtained';
    is $pebble->orders - $orders, @names + 1, 'by the orders that were there';
    ok wait_until(10, sub { !$command->values_left }), 'and all cleaned up';
    ok $server->stop, 'httpd stops';
};

subtest 'what it leaves behind, and lies' => sub {
    my $command = Autocert::DnsCommand->new(dns => $pebble->{dns});
    my $server = new_server($command, dns_vhost('children.example.test', '@command@ children wait=0')
        . 'AutocertDNSResolver 127.0.0.1:' . $pebble->dns_port . "\n"
        . dns_vhost('lie.example.test', '@command@ lie wait=1s')
        . dns_vhost('leave.example.test', '@command@ leave wait=0')
        . dns_vhost('daemon.example.test', '@command@ daemon wait=0'));
    ok $server->start, 'httpd starts' or return;
    ok all_stored($server, OBTAIN_SECONDS, 'children.example.test'), 'one that leaves processes behind does its work';
    ok wait_until(10, sub { grep { $_->{argv}[0] eq 'children' } $command->runs('cleanup') }),
        'and cleans up';
    my @children = map { $_->{argv}[0] eq 'children' ? $_->{child} : () } $command->runs;
    is scalar(@children), 2, 'each time one stayed behind';
    ok wait_until(10, sub { !grep { process_lives($_) } @children }), 'and is gone';
    ok all_stored($server, OBTAIN_SECONDS, 'leave.example.test'), 'one that does not clean up does not harm';
    my ($value) = map { $_->{argv}[-1] } grep { $_->{argv}[0] eq 'leave' } $command->runs('present');
    my $left = wait_until(OBTAIN_SECONDS, sub { (events($server, 'AC0252'))[0] });
    like $left && $left->{text}, qr/the record is not mine.*_acme-challenge\.leave\.example\.test\. TXT \Q$value\E/,
        'the log says what is left over, and why';
    ok all_stored($server, OBTAIN_SECONDS, 'daemon.example.test'), 'nobody waits for one that goes its own way';
    wait_until(10, sub { grep { $_->{argv}[0] eq 'daemon' && $_->{argv}[1] eq 'cleanup' } $command->runs });
    kill 'KILL', map { $_->{argv}[0] eq 'daemon' ? $_->{child} : () } $command->runs;
    my $failed = failure($server, 'lie.example.test') or return;
    my ($line) = grep { ($_->{name} // '') eq 'lie.example.test' } events($server, 'AC0254');
    ok $line, 'a record that is not there is missed' or diag $server->log_since(0);
    ok !(grep { ($_->{name} // '') eq 'lie.example.test' } events($server, 'AC0253')), 'and not seen';
    like $failed->{text}, qr/^not obtained from localhost:\d+: .*dns-01/, 'the CA is asked all the same';
    ok $server->stop, 'httpd stops';
};

# The record is in the CA's DNS, but not in the one that is asked here, so it is looked for when httpd ends.
for my $signal ('TERM', 'KILL') {
    subtest "the end of httpd by SIG$signal while a record is looked for" => sub {
        my $elsewhere = Autocert::Dns->new(name => "elsewhere$signal")->start;
        my $name = lc "$signal.example.test";
        my $command = Autocert::DnsCommand->new(dns => $pebble->{dns});
        my $server = new_server($command, "AutocertDNSResolver \@resolver\@\n"
            . dns_vhost($name, '@command@ set wait=60s'), resolver => '127.0.0.1:' . $elsewhere->port);
        my $orders = $pebble->orders;
        ok $server->start, 'httpd starts' or return;
        ok $server->wait_for_log(qr/AC0250: autocert: \Q$name\E: .* present /, OBTAIN_SECONDS), 'the record is set';
        $signal eq 'KILL' ? $server->kill_all : ok $server->stop, 'httpd stops';
        is scalar($command->runs('cleanup')), 0, 'the record stays for whoever goes on';
        $server->{vars}{resolver} = '127.0.0.1:' . $pebble->dns_port;
        $server->write_config;
        ok $server->start, 'httpd starts' or return;
        ok all_stored($server, OBTAIN_SECONDS, $name), 'the name is obtained';
        is $pebble->orders, $orders + 1, 'by the order that was there';
        ok wait_until(10, sub { $command->runs('cleanup') && !$command->values_left }), 'and the record is gone';
        ok $server->stop, 'httpd stops';
        $elsewhere->stop;
    };
}

# The record of an order that is of no use any more is nobody's but ours.
subtest 'a CA that forgets the order' => sub {
    my $slow = Autocert::Pebble->new(env => { PEBBLE_VA_NOSLEEP => undef, PEBBLE_VA_SLEEPTIME => 10_000 })->start;
    my $command = Autocert::DnsCommand->new(dns => $slow->{dns});
    my $name = 'forgotten.example.test';
    my $server = Autocert::Server->with_ca($slow, vars => { command => $command->program },
        config => dns_vhost($name, '@command@ wait=0'));
    ok $server->start, 'httpd starts' or return;
    ok $server->wait_for_log(qr/AC0224: autocert: asked the CA to validate/, OBTAIN_SECONDS), 'the CA is asked to look';
    $server->kill_all;
    is $command->values_left, 1, 'httpd is killed, and the record stays';
    $slow->kill_ca;
    delete $slow->{env};
    $slow->start_ca;
    ok $server->start, 'httpd starts, with a CA that knows nothing' or return;
    ok all_stored($server, OBTAIN_SECONDS, $name), 'the name is obtained';
    ok wait_until(10, sub { !$command->values_left }), 'and no record is left' or diag join "\n",
        map { "@{ $_->{argv} }" } $command->runs;
    my %values = map { $_->{argv}[-1] => 1 } $command->runs('cleanup');
    is scalar(keys %values), 2, 'neither the new one nor the old one';
    ok $server->stop, 'httpd stops';
    $slow->stop_all;
};

subtest 'many that hang' => sub {
    my $command = Autocert::DnsCommand->new(dns => $pebble->{dns});
    my @hanging = map { "hang$_.example.test" } 1 .. HANGING;
    my $server = new_server($command, dns_vhost("@hanging", '@command@ stubborn timeout=60s') . <<'CONF');
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain quick.example.test brown.example.test
    AutocertChallenges tls-alpn-01
</VirtualHost>
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain fox.example.test
    AutocertChallenges http-01
</VirtualHost>
CONF
    ok $server->start, 'httpd starts' or return;
    ok all_stored($server, OBTAIN_SECONDS, map { "$_.example.test" } qw(quick brown fox)),
        'names that need no program are obtained';
    ok wait_until(OBTAIN_SECONDS, sub { $command->runs }), 'while programs hang';
    is count_events($server, 'AC0251'), 0, 'all of them';
    ok wait_until(OBTAIN_SECONDS, sub { $command->runs == AT_ONCE }), 'not all at once';
    my $begin = time;
    ok $server->stop, 'httpd stops';
    cmp_ok time - $begin, '<=', STOP_SECONDS, 'soon';
    ok wait_until(STOP_SECONDS, sub { !grep { process_lives($_->{pid}) } $command->runs }), 'and the programs with it';
};

done_testing;
