# Licensed under the Apache License, Version 2.0; see LICENSE.
# seconds: 200
#
# Renewal: at its time, by default and as configured, while clients come and none ever
# fails; after a restart without any visitor; never in a loop; not when the cache could not keep
# the result. A good file is served without a word to the CA. The account stays the same.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Client qw(handshake load_start load_stop make_ca issue_pair cache_value);
use Autocert::Events qw(events count_events vhosts);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until slurp spit);

use constant {
    LIFETIME       => 14,        # of the short certificates
    SHARE          => 75,        # percent, left when the second name is renewed
    RENEWALS       => 2,         # of the first name that are watched
    OBTAIN_SECONDS => 60,
    DAY            => 86_400,
    EARLY          => 1.5,       # seconds: certificates begin at a whole second, and the spread
};

my $head = <<'CONF';
AutocertCA @pebble@ cafile=@cafile@
AutocertAcceptTOS on
AutocertCache dir:@cache@
CONF

sub new_server
{
    my ($pebble, %arg) = @_;
    return Autocert::Server->new(http => $pebble->http, https => $pebble->https,
        vars => $pebble->vars, loglevel => 'notice autocert:debug', %arg);
}

my $old_ca = make_ca('another CA');
my $old_root = spit(Autocert::Server::work_dir() . '/old-ca.pem', $old_ca->{pem});

sub old_value
{
    my ($name, $begin, $end) = @_;
    return cache_value(issue_pair($old_ca, [$name], not_before => $begin, not_after => $end));
}

# How many times the CA made an account; a request may be refused for its nonce.
sub accounts
{
    my ($pebble) = @_;
    my $count = () = $pebble->log =~ /There are now \d+ accounts in memory/g;
    return $count;
}

subtest 'short certificates' => sub {
    my ($half, $share) = ('half.example.test', 'share.example.test');
    my $pebble = Autocert::Pebble->new(lifetime => LIFETIME)->start;
    my $server = new_server($pebble, config => $head . vhosts($half) . <<"CONF");
<VirtualHost 127.0.0.1:\@https\@>
    AutocertDomain $share
    AutocertRenewBefore @{[SHARE]}%
</VirtualHost>
CONF
    ok $server->start, 'httpd starts' or return;
    my $root = $pebble->root;
    ok wait_until(OBTAIN_SECONDS, sub {
        return !grep { !handshake(port => $server->https, sni => $_, ca => $root)->{ok} }
            $half, $share;
    }), 'both names are served' or return;
    my $mark = $server->mark;
    my @loads = map { load_start(port => $server->https, ca => $root, sni => [$half, $share],
        path => '/', pause => 0.05) } 1 .. 2;
    my %serials;
    ok wait_until(LIFETIME * RENEWALS + OBTAIN_SECONDS, sub {
        my $seen = handshake(port => $server->https, sni => $half, ca => $root);
        $serials{ $seen->{serial} } = 1 if $seen->{ok};
        return keys %serials > RENEWALS;
    }), 'visitors see new certificates, without a restart';

    my %times;
    push @{ $times{ $_->{name} } }, $_->{time} for events($server, 'AC0110');
    for my $case ([$half, 50, 'half of the lifetime'], [$share, SHARE, 'as configured']) {
        my ($name, $left, $what) = @$case;
        my @at = @{ $times{$name} };
        my @gaps = map { $at[$_] - $at[$_ - 1] } 1 .. $#at;
        my $early = LIFETIME * (1 - $left / 100 - 0.02) - EARLY;
        my @wrong = grep { $_ < $early || $_ > LIFETIME } @gaps;
        ok !@wrong, "$name is renewed at its time: $what" or diag "gaps @gaps, not before $early";
    }
    cmp_ok scalar(@{ $times{$share} }), '>', scalar(@{ $times{$half} }), 'which is more often';
    my $line = wait_until(30, sub { (events($server, 'AC0110', $mark))[-1] });
    like $line->{text}, qr/^renewed from /, 'the log says so';
    for my $load (@loads) {
        my $result = load_stop($load);
        is $result->{failed}, 0, "no visit failed of $result->{ok}" or diag $result->{error};
    }
    is accounts($pebble), 1, 'AK-01: one account';
    my $key = slurp($server->cache_file('acme_account+key'));
    ok $server->restart, 'a full restart';
    $mark = $server->mark;
    ok wait_until(LIFETIME + OBTAIN_SECONDS, sub { count_events($server, 'AC0110', $mark) }),
        'X-15: after it renewal goes on without a visitor';
    is accounts($pebble), 1, 'AK-01: and there is still one account';
    is slurp($server->cache_file('acme_account+key')), $key, 'AK-01: with the same key';
    ok $server->stop, 'httpd stops';
};

subtest 'files that were there' => sub {
    my ($good, $expired, $late, $due, $long) =
        map { "$_.example.test" } qw(good expired late due long);
    my $pebble = Autocert::Pebble->new(lifetime => 6 * DAY)->start;
    my $server = new_server($pebble, config => $head . vhosts($good));
    $server->cache_put($good, old_value($good, -DAY, 60 * DAY));
    my %visit = (port => $server->https, ca => $old_root);
    my $said;

    ok $server->start, 'httpd starts with a good file' or return;
    my $seen = handshake(%visit, sni => $good);
    ok $seen->{ok}, 'GC-08: it is served at once' or diag $seen->{error};
    $said = wait_until(30, sub { (events($server, 'AC0001'))[0] });
    like $said->{text}, qr/^1 name in 1 vhost: 1 valid \(first expires \d{4}-\d\d-\d\d\), 0 to obtain;/,
        'GC-08: the log says how things stand';
    unlike $pebble->log, qr{(?:GET|HEAD|POST) /}, 'GC-08: and the CA was not asked anything';
    $pebble->stop;
    ok $server->restart, 'a restart while the CA is down';
    $seen = handshake(%visit, sni => $good);
    ok $seen->{ok}, 'GC-08: it is served with the CA down' or diag $seen->{error};
    is count_events($server, 'AC0130'), 0, 'GC-08: and nobody misses the CA';
    $server->stop;

    $pebble->start_ca;
    my $new_root = $pebble->root;
    $server->cache_put($expired, old_value($expired, -90 * DAY, -60));
    $server->cache_put($late, old_value($late, -90 * DAY, 600));
    $server->cache_put($due, old_value($due, -60 * DAY, 10 * DAY));
    $server->write_config($head . vhosts($good, $expired, $due) . <<"CONF");
<VirtualHost 127.0.0.1:\@https\@>
    AutocertDomain $late
    AutocertRenewBefore 24h
</VirtualHost>
<VirtualHost 127.0.0.1:\@https\@>
    AutocertDomain $long
    AutocertRenewBefore 30d
</VirtualHost>
CONF
    my $mark = $server->mark;
    ok $server->start, 'httpd starts with all kinds of files' or return;
    my %first = map { $_ => handshake(port => $server->https, sni => $_) } $late, $due, $expired;
    for my $name ($late, $due) {
        ok $first{$name}{ok}, "GC-17: $name is served at once" or diag $first{$name}{error};
    }
    isnt $first{$expired}{issuer_cn} // 'an alert', 'another CA', 'GC-09: an expired one is not';
    for my $case ([$late, 'GC-17: almost expired: renewed behind'],
        [$due, 'X-15: due: renewed after the start, nobody needs to ask'],
        [$expired, 'GC-09: expired: obtained anew'], [$long, 'obtained']) {
        my ($name, $what) = @$case;
        ok wait_until(OBTAIN_SECONDS, sub {
            return handshake(port => $server->https, sni => $name, ca => $new_root)->{ok};
        }), "$name: $what";
        isnt slurp($server->cache_file($name)) // '', '', "$name: and stored";
    }
    # The line is written after the certificate is in service.
    my %text;
    wait_until(30, sub {
        %text = map { $_->{name} => $_->{text} } events($server, 'AC0110', $mark);
        return keys %text == 4;
    });
    like $text{$late}, qr/^renewed from /, 'the log tells renewed ones';
    like $text{$long}, qr/^obtained from /, 'from new ones';
    # More visits and a restart give a loop its chance.
    ok $server->stop, 'httpd stops';
    $mark = $server->mark;
    ok $server->start, 'and starts';
    $said = wait_until(30, sub { (events($server, 'AC0001', $mark))[0] });
    like $said->{text}, qr/: 5 valid \(.*\), 0 to obtain;/, 'all is well';
    ok handshake(port => $server->https, sni => $long, ca => $new_root)->{ok}, "$long is served";
    is $pebble->orders, 4,
        'X-14: RenewBefore longer than the lifetime makes no loop, one order for each name';
    is count_events($server, 'AC0120'), 0, 'nothing failed';
    my $again = handshake(%visit, sni => $good);
    ok $again->{ok}, 'and the good file is still what is served' or diag $again->{error};
    ok $server->stop, 'httpd stops';
};

subtest 'a cache that cannot be written' => sub {
    my $name = 'kept.example.test';
    my $pebble = Autocert::Pebble->new->start;
    my $server = new_server($pebble, config => $head . vhosts($name));
    my %visit = (port => $server->https, sni => $name);
    # Due now, and the wait after a failure is a part of that lifetime. First a directory in which
    # nothing was ever locked or noted, then one that became read-only later.
    for my $case (['never written', 'AC0121', qr/its lock in the cache cannot be taken/],
        ['read-only now', 'AC0120', qr/the cache cannot be written, so nothing is ordered/]) {
        my ($what, $id, $why) = @$case;
        $server->cache_put($name, old_value($name, -80, 40));
        my $text = slurp($server->cache_file($name));
        my $orders = $pebble->orders;
        chmod 0500, $server->cache or die "chmod: $!\n";
        my $mark = $server->mark;
        ok $server->start, "X-13: $what: httpd starts" or return;
        my $seen = handshake(%visit, ca => $old_root);
        ok $seen->{ok}, "X-13: $what: and serves what it has" or diag $seen->{error};
        my $failed = wait_until(30, sub { (events($server, $id, $mark))[0] });
        like $failed && $failed->{text}, qr/^not renewed.*: $why: .*[Pp]ermission denied/,
            "X-13: $what: the log says why nothing is renewed";
        is $pebble->orders, $orders, "X-13: $what: nothing is ordered";
        is slurp($server->cache_file($name)), $text, "X-13: $what: the file is what it was";
        chmod 0700, $server->cache or die "chmod: $!\n";
        my $root = $pebble->root;
        ok wait_until(30, sub { handshake(%visit, ca => $root)->{ok} }),
            "X-13: $what: it goes on when the directory can be written, before the old one ends";
        is $pebble->orders, $orders + 1, "X-13: $what: with one order";
        ok $server->stop, "X-13: $what: httpd stops";
    }
};

done_testing;
