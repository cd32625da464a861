# Licensed under the Apache License, Version 2.0; see LICENSE.
# mpm: all
#
# Files of the cache that somebody else replaces. A valid newer pair is served by every
# child within seconds and without a signal; a broken one leaves the old certificate in
# service, is reported and is obtained again.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Client qw(handshake https_get make_ca issue_pair cache_value cert_info);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until free_ports spit slurp scratch);

use constant {
    LIVE_SECONDS   => 30,
    OBTAIN_SECONDS => 60,
    BURST          => 8,     # connections held open at once to reach a second child
    CALM_BURSTS    => 5,     # of the new certificate alone
};

my $name = 'a.example.test';
my $ca = make_ca('a CA by hand');
my $root = spit(scratch() . "/replace.$$", $ca->{pem});

# Fingerprints seen by as many clients at once; each asks for the page, so that the log
# tells which child it was.
sub look
{
    my ($server, $path) = @_;
    my %visit = (port => $server->https, sni => $name, keep => 1);
    my @open = map { handshake(%visit) } 1 .. BURST;
    my %seen;
    for my $one (@open) {
        $seen{ $one->{fingerprint} // "error: $one->{error}" }++;
        my $socket = $one->{socket} or next;
        print {$socket} "GET $path HTTP/1.1\r\nHost: $name\r\nConnection: close\r\n\r\n";
        1 while sysread $socket, my $part, 4096;
        $socket->close;
    }
    return \%seen;
}

sub children_seen
{
    my ($server, $path) = @_;
    my %pids = map { $_ => 1 } $server->access_log =~ m{^pid=(\d+) .*"GET \Q$path\E }mg;
    return scalar keys %pids;
}

subtest 'a newer pair put there by hand' => sub {
    my $server = Autocert::Server->new(vars => { dead => scalar free_ports(1) }, config => <<'CONF');
AutocertCA https://127.0.0.1:@dead@/dir
AutocertAcceptTOS on
AutocertCache dir:@cache@
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain a.example.test
</VirtualHost>
CONF
    my @pair = map { issue_pair($ca, [$name]) } 0 .. 2;
    my @print = map { cert_info($_->{pem})->{fingerprint} } @pair;
    $server->cache_put($name, cache_value($pair[0]));
    ok $server->start, 'httpd starts' or return;
    my $before = $server->pid;
    my $wrong;
    wait_until(LIVE_SECONDS, sub {
        my $seen = look($server, '/first');
        $wrong = $seen if keys %$seen != 1 || !$seen->{ $print[0] };
        return $wrong || children_seen($server, '/first') >= 2;
    }, 'a second child to answer');
    is $wrong, undef, 'every child serves what was there at start' or diag join ' ', %$wrong;

    for my $n (1, 2) {
        my %allowed = ($print[$n - 1] => 1, $print[$n] => 1);
        my ($stranger, $calm) = (undef, 0);
        $server->cache_put($name, cache_value($pair[$n]));
        my $done = wait_until(LIVE_SECONDS, sub {
            my $seen = look($server, "/pair$n");
            $stranger = join ' ', %$seen if grep { !$allowed{$_} } keys %$seen;
            $calm = keys %$seen == 1 && $seen->{ $print[$n] } ? $calm + 1 : 0;
            return defined $stranger
                || $calm >= CALM_BURSTS && children_seen($server, "/pair$n") >= 2;
        }, "replacement $n in every child");
        is $stranger, undef, "replacement $n: never anything but the old or the new certificate";
        ok $done && $calm >= CALM_BURSTS, "replacement $n: is served by every child";
        my $seen = https_get(port => $server->https, sni => $name, ca => $root);
        is $seen->{status}, 200, "replacement $n: and verifies" or diag $seen->{error};
    }
    is $server->pid, $before, 'it is the same server';
    my $starts = () = $server->log_since(0) =~ /resuming normal operations/g;
    is $starts, 1, 'which was never restarted';
    unlike $server->log_since(0), qr/AC03\d\d/, 'and found nothing wrong';
    ok $server->stop, 'httpd stops';
};

subtest 'a broken file put there by hand' => sub {
    my $pebble = Autocert::Pebble->new;
    $pebble->start;
    # One child: only a child that has served the old certificate can go on doing so.
    my $mpm = Autocert::Server::mpm_of_run();
    my $server = Autocert::Server->new(http => $pebble->http, https => $pebble->https,
        start_servers => 1, server_limit => 1, max_workers => $mpm eq 'prefork' ? 1 : 10,
        vars => $pebble->vars, config => <<'CONF');
AutocertCA @pebble@ cafile=@cafile@
AutocertAcceptTOS on
AutocertCache dir:@cache@
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain a.example.test
</VirtualHost>
CONF
    ok $server->start, 'httpd starts' or return;
    my %visit = (port => $server->https, sni => $name, ca => $pebble->root);
    my $first = wait_until(OBTAIN_SECONDS, sub {
        my $seen = https_get(%visit);
        return $seen->{ok} ? $seen : undef;
    }, 'a certificate') or return fail 'a certificate is obtained';
    my $orders = $pebble->orders;
    my $mark = $server->mark;

    $server->cache_put($name, "rubbish\n");
    my ($failure, $other);
    my $new = wait_until(OBTAIN_SECONDS, sub {
        my $seen = https_get(%visit);
        $failure //= $seen->{error} // "status $seen->{status}" if ($seen->{status} // 0) != 200;
        return $seen->{ok} && $seen->{fingerprint} ne $first->{fingerprint} ? $seen : undef;
    }, 'the new certificate');
    is $failure, undef, 'clients are served all the time';
    ok $new, 'and with a new certificate in the end';
    like $server->log_since($mark), qr/AC03\d\d: autocert: a\.example\.test: /, 'the log names the file';
    is $pebble->orders, $orders + 1, 'by one order';
    my $leaf = cert_info($new->{chain}[0]);
    like slurp($server->cache_file($name)), qr/\A-----BEGIN EC PRIVATE KEY-----\n.*\Q$leaf->{pem}\E/s,
        'which is in the file now';

    # GC-16
    $mark = $server->mark;
    $server->cache_put($name, cache_value(issue_pair($ca, [$name], key => 'rsa')));
    my $third = wait_until(OBTAIN_SECONDS, sub {
        my $seen = https_get(%visit);
        return $seen->{ok} && $seen->{fingerprint} ne $new->{fingerprint} ? $seen : undef;
    }, 'a certificate instead of the wrong kind');
    ok $third, 'GC-16 an RSA pair in the file of the EC pair is replaced too';
    is $third->{key_type}, 'EC', 'GC-16 by an EC pair';
    like $server->log_since($mark), qr/AC03\d\d: autocert: a\.example\.test: .*not EC/,
        'GC-16 the log says why';
    opendir my $dir, $server->cache or die $server->cache . ": $!\n";
    is_deeply [sort grep { !/^\./ } readdir $dir], [$name, 'acme_account+key'],
        'GC-16 there is one certificate file';
};

done_testing;
