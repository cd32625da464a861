# Licensed under the Apache License, Version 2.0; see LICENSE.
# seconds: 300
#
# Certificates that no configuration lists are renewed by the calendar, also after a restart and without a
# visit, until nobody came for AutocertRetire or the policy no longer allows them.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Client qw(https_get handshake make_ca issue_pair cache_value cert_info);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until spit slurp scratch);

use constant {
    LIVE_SECONDS => 60,
    DAY          => 86_400,
};

my $ca = make_ca('a CA by hand');

# A certificate as it would have been obtained earlier.
sub put_old
{
    my ($server, $name, $from, $to, %opt) = @_;
    my $pair = issue_pair($ca, [$name], not_before => $from, not_after => $to, %opt);
    $server->cache_put($name . (($opt{key} // '') eq 'rsa' ? '+rsa' : ''), cache_value($pair));
    return cert_info($pair->{pem})->{serial};
}

subtest 'found in the cache' => sub {
    my $pebble = Autocert::Pebble->new;
    $pebble->start;
    my $server = Autocert::Server->with_ca($pebble, config => <<'CONF');
<VirtualHost 127.0.0.1:@https@>
    AutocertHostPolicy match [a-z]{1,9}\.calendar\.test
    AutocertKeyTypes p256 rsa2048
</VirtualHost>
CONF
    put_old($server, 'due.calendar.test', -80 * DAY, 10 * DAY);
    put_old($server, 'due.calendar.test', -80 * DAY, 10 * DAY, key => 'rsa');
    put_old($server, 'lapsed.calendar.test', -91 * DAY, -DAY);
    put_old($server, 'young.calendar.test', -DAY, 89 * DAY);
    put_old($server, 'foreign.other.test', -80 * DAY, 10 * DAY);
    my %before = map { $_ => slurp($server->cache_file($_)) } qw(young.calendar.test foreign.other.test);
    ok $server->start, 'httpd starts' or return;
    my $log = sub { $server->log_since(0) };
    ok wait_until(LIVE_SECONDS, sub { my @all = $log->() =~ /AC0110: autocert: due\.calendar\.test: renewed/g;
        @all == 2 }), 'what is due is renewed without a visit, both kinds of key';
    ok wait_until(LIVE_SECONDS, sub { $log->() =~ /AC0110: autocert: lapsed\.calendar\.test: / }),
        'what expired while the server was off, too';
    is $pebble->orders, 3, 'and nothing else';
    is slurp($server->cache_file($_)), $before{$_}, "$_ is left alone" for sort keys %before;
    my $seen = https_get(port => $server->https, ca => $pebble->root, sni => 'due.calendar.test');
    is $seen->{status}, 200, 'the new certificate is served' or diag $seen->{error};
    is handshake(port => $server->https, sni => 'foreign.other.test')->{alert}, 112,
        'what no policy allows is not served';
    ok $server->stop, 'httpd stops';
};

subtest 'short lives, over a restart' => sub {
    my $pebble = Autocert::Pebble->new(lifetime => 40);
    $pebble->start;
    my $server = Autocert::Server->with_ca($pebble, config => <<'CONF');
<VirtualHost 127.0.0.1:@https@>
    AutocertHostPolicy match [a-z]{1,9}\.short\.test
</VirtualHost>
CONF
    ok $server->start, 'httpd starts' or return;
    my %visit = (port => $server->https, ca => $pebble->root, sni => 'one.short.test');
    my $first = https_get(%visit);
    is $first->{status}, 200, 'a name is obtained' or diag $first->{error};
    ok $server->restart, 'httpd restarts';
    my $renewed = wait_until(LIVE_SECONDS, sub { $server->log_since(0) =~ /one\.short\.test: renewed/ });
    ok $renewed, 'it is renewed, and nobody came since';
    my $seen = https_get(%visit);
    is $seen->{status}, 200, 'and serves' or diag $seen->{error};
    isnt $seen->{serial}, $first->{serial}, 'by another certificate';
    ok $server->stop, 'httpd stops';
};

subtest 'retired' => sub {
    my $pebble = Autocert::Pebble->new(lifetime => 24);
    $pebble->start;
    my $server = Autocert::Server->with_ca($pebble, config => <<'CONF');
<VirtualHost 127.0.0.1:@https@>
    AutocertHostPolicy match [a-z]{1,9}\.retire\.test
    AutocertRetire 20s
</VirtualHost>
CONF
    ok $server->start, 'httpd starts' or return;
    my %visit = (port => $server->https, ca => $pebble->root);
    my @names = ('visited.retire.test', 'lonely.retire.test');
    is https_get(%visit, sni => $_)->{status}, 200, "$_ is obtained" for @names;
    my $renewals = sub {
        my ($name) = @_;
        my $count = () = $server->log_since(0) =~ /\Q$name\E: renewed/g;
        return $count;
    };
    my ($bad, @lives) = (0);
    ok wait_until(120, sub {
        my $seen = https_get(%visit, sni => $names[0]);
        $bad++ unless ($seen->{status} // 0) == 200;
        push @lives, $seen if $seen->{serial} && (!@lives || $lives[-1]{serial} ne $seen->{serial});
        return $renewals->($names[0]) >= 4;
    }), 'a name that is visited is renewed again and again';
    is $bad, 0, 'and served all the time';
    # One that was retired comes back only when it has expired, for a client that waits.
    is scalar(grep { $lives[$_]{not_before} >= $lives[$_ - 1]{not_after} } 1 .. $#lives), 0,
        'each certificate was replaced before its end';
    cmp_ok $renewals->($names[1]), '<=', 2, 'one that nobody visits is renewed no more after a while';
    my $seen = https_get(%visit, sni => $names[1]);
    is $seen->{status}, 200, 'until somebody comes: then a new certificate is obtained' or diag $seen->{error};
    ok $server->stop, 'httpd stops';
};

done_testing;
