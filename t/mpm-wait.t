# Licensed under the Apache License, Version 2.0; see LICENSE.
# mpm: all
# seconds: 300
#
# Handshakes that wait: never all workers, so the CA's own validation gets through; for no longer than
# AutocertWait when the CA is down, while others are served; through a graceful restart; and not for a
# client that has gone.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);
use IO::Socket::INET ();
use Time::HiRes ();

use Autocert::Client qw(https_get handshake handshake_all make_ca issue_pair cache_value);
use Autocert::Endpoint;
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until free_ports spit scratch run_program);

use constant {
    INTERNAL     => 80,
    CLIENTS      => 50,
    LIVE_SECONDS => 40,
};

my $mpm = Autocert::Server::mpm_of_run();
my $ca = make_ca('a CA by hand');
my $hand = spit(scratch() . "/mpm-wait.$$", $ca->{pem});

subtest 'four workers, fifty clients' => sub {
    my $pebble = Autocert::Pebble->new;
    $pebble->start;
    my $server = Autocert::Server->with_ca($pebble, wait => '20s 100',
        $mpm eq 'prefork' ? (start_servers => 4, max_workers => 4)
            : (start_servers => 2, threads => 2, server_limit => 2, max_workers => 4),
        config => <<'CONF');
<VirtualHost 127.0.0.1:@https@>
    AutocertHostPolicy match n[0-9]{1,4}\.four\.test
</VirtualHost>
CONF
    ok $server->start, 'httpd starts' or return;
    my $root = $pebble->root;
    my @names = map { "n$_.four.test" } 1 .. CLIENTS;
    my $seen = handshake_all(port => $server->https, ca => $root, names => \@names, clients => CLIENTS,
        timeout => 60);
    my @bad = grep { !$_->{ok} } @$seen;
    is scalar(grep { ($_->{alert} // 0) != INTERNAL } @bad), 0, 'whoever found no place got internal_error'
        or diag join "\n", map { $_->{error} // () } @bad;
    cmp_ok scalar(@$seen) - @bad, '>=', 1, 'some waited and were served';
    ok wait_until(LIVE_SECONDS, sub { !grep { !-s $server->cache_file($_) } @names }),
        'the CA got through, and all names are obtained';
    is $pebble->orders, CLIENTS, 'by one order each';
    $seen = handshake_all(port => $server->https, ca => $root, names => \@names, clients => 4, timeout => 60);
    is scalar(grep { $_->{ok} } @$seen), CLIENTS, 'all of them are served then'
        or diag join "\n", map { $_->{error} // () } @$seen;
    ok $server->stop, 'httpd stops';
};

subtest 'the CA is down' => sub {
    my $pebble = Autocert::Pebble->new;
    $pebble->start;
    $pebble->stop;
    my $server = Autocert::Server->with_ca($pebble, wait => '2s', config => <<'CONF');
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain good.down.test
    AutocertHostPolicy match n[0-9]{1,4}\.down\.test
</VirtualHost>
CONF
    $server->cache_put('good.down.test', cache_value(issue_pair($ca, ['good.down.test'])));
    ok $server->start, 'httpd starts' or return;
    my @names = map { "n$_.down.test" } 1 .. 3;
    my $good = Autocert::Client::load_start(port => $server->https, sni => 'good.down.test', ca => $hand,
        path => '/', pause => 0.02);
    my $seen = handshake_all(port => $server->https, names => \@names, clients => 3);
    for my $one (@$seen) {
        is $one->{alert}, INTERNAL, "$one->{name}: internal_error" or diag $one->{error} // 'served';
        cmp_ok $one->{seconds}, '>', 1.5, "$one->{name}: when the time is over, not before";
    }
    my $result = Autocert::Client::load_stop($good);
    is $result->{failed}, 0, 'a name with a certificate is served meanwhile' or diag $result->{error};
    cmp_ok $result->{ok}, '>=', 5, 'again and again';
    $pebble->start;
    ok wait_until(LIVE_SECONDS, sub { !grep { !-s $server->cache_file($_) } @names }),
        'when the CA is back the names come in, without another visit';
    is $pebble->orders, 3, 'by one order each';
    ok $server->stop, 'httpd stops';
};

subtest 'a graceful restart' => sub {
    my $pebble = Autocert::Pebble->new(env => { PEBBLE_VA_NOSLEEP => 0, PEBBLE_VA_SLEEPTIME => 4 });
    $pebble->start;
    my $server = Autocert::Server->with_ca($pebble, wait => '60s 20', config => <<'CONF');
<VirtualHost 127.0.0.1:@https@>
    AutocertHostPolicy match n[0-9]{1,4}\.over\.test
</VirtualHost>
CONF
    ok $server->start, 'httpd starts' or return;
    my $root = $pebble->root;
    pipe my $reader, my $writer or die "pipe: $!\n";
    my $pid = fork // die "fork: $!\n";
    if ($pid == 0) {
        my $seen = https_get(port => $server->https, ca => $root, sni => 'n1.over.test', timeout => 90);
        syswrite $writer, ($seen->{status} // $seen->{error} // 'nothing') . "\n";
        POSIX::_exit(0);
    }
    close $writer;
    ok wait_until(LIVE_SECONDS, sub { $pebble->log =~ /Added order "/ }), 'its order is placed';
    ok $server->graceful, 'a graceful restart in the middle';
    my $answer = readline($reader) // 'lost';
    waitpid $pid, 0;
    chomp $answer;
    is $answer, 200, 'the handshake that waited is served';
    is $pebble->orders, 1, 'by the one order';
    ok $server->stop, 'httpd stops';
};

subtest 'clients that go away' => sub {
    my $pebble = Autocert::Pebble->new;
    $pebble->start;
    my $endpoint = Autocert::Endpoint->new(mode => 'hang');
    my $server = Autocert::Server->with_ca($pebble, wait => '60s 1', vars => { url => $endpoint->url },
        config => <<'CONF');
<VirtualHost 127.0.0.1:@https@>
    AutocertHostPolicy ask @url@ timeout=50s
</VirtualHost>
CONF
    ok $server->start, 'httpd starts' or return;
    # One place only: whoever has it keeps the others out until he goes.
    for my $n (1 .. 3) {
        my $seen = handshake(port => $server->https, sni => "gone$n.test", timeout => 2);
        ok !$seen->{ok}, "client $n gives up";
        is $seen->{alert}, undef, "client $n: nobody sent it away: the one before it freed its place"
            or diag $seen->{error};
    }
    ok $server->stop, 'httpd stops';
};

done_testing;
