# Licensed under the Apache License, Version 2.0; see LICENSE.
# seconds: 200
#
# CAs that say "later", and those that want a human: Retry-After in all forms and none, orders that take
# days, paused names, new terms of service, contacts that are refused.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);
use POSIX ();

use Autocert::Client qw(handshake make_ca issue_pair cache_value);
use Autocert::Events qw(events count_events vhosts all_stored missing_names ledger);
use Autocert::FaultProxy;
use Autocert::Faults qw(faulty_server check_faults heal_faults);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until spit);

use constant {
    OBTAIN_SECONDS => 60,
    TOLD_SECONDS   => 30,
    MINUTE         => 60,
    HOUR           => 3600,
    DAY            => 86_400,
    SOON           => 2,        # seconds, of a Retry-After that is kept to
};

sub http_date
{
    my ($time) = @_;
    # The test runs in the C locale as t/run sets it.
    return POSIX::strftime('%a, %d %b %Y %H:%M:%S GMT', gmtime $time);
}

sub limited
{
    my ($detail, %headers) = @_;
    return Autocert::FaultProxy::problem(429, 'rateLimited', detail => $detail, headers => \%headers);
}

# A look at an authorization that is not finished, whatever Pebble says.
sub not_yet
{
    my ($authz) = @_;
    $authz->{status} = 'pending';
    for my $challenge (@{ $authz->{challenges} }) {
        $challenge->{status} = 'pending';
        delete $challenge->{error};
    }
    return;
}

my %edits = (
    not_yet => \&not_yet,
    not_yet_date => sub {
        my ($authz, $answer) = @_;
        not_yet($authz);
        # Dates have whole seconds: rounded up.
        push @{ $answer->{headers} }, ['Retry-After', http_date(time + SOON + 1)];
    },
    days => sub { $_[0]{status} = 'processing'; delete $_[0]{certificate} },
);

my $pebble = Autocert::Pebble->new(env => { PEBBLE_WFE_NONCEREJECT => 0 })->start;
my $proxy = Autocert::FaultProxy->new(pebble => $pebble, edits => \%edits)->start;
my $link = 'https://portal.example/paused?jwt=abc';

# What Let's Encrypt says of one name; what it says of the account is a matter of the CA (limits.t).
my $one_name = 'too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s';

sub no_order
{
    my ($answer) = @_;
    return (orders => 0, most => { newOrder => 1 }, rules => [{ class => 'newOrder', answer => $answer }]);
}

my @faults = (
    { is => 'F04', what => '429 with seconds', wait => 10 * MINUTE, fails => qr/rateLimited: too many/,
        no_order(limited($one_name, 'Retry-After' => 10 * MINUTE)) },
    { is => 'F04', what => '429 with a date', wait => 20 * MINUTE, fails => qr/rateLimited: too many/,
        no_order(limited($one_name, 'Retry-After' => http_date(time + 20 * MINUTE + TOLD_SECONDS))) },
    { is => 'F04', what => '429 with the moment in words', wait => 30 * MINUTE, fails => qr/rateLimited: too many/,
        no_order(limited("$one_name, retry after "
            . POSIX::strftime('%Y-%m-%d %H:%M:%S UTC', gmtime(time + 30 * MINUTE + TOLD_SECONDS)) . ': see')) },
    { is => 'F04', what => '429 without a moment', wait => HOUR, fails => qr/rateLimited: too many/,
        no_order(limited($one_name)) },
    { is => 'F04', what => '429 for years', wait => DAY, fails => qr/rateLimited: too many/,
        no_order(limited($one_name, 'Retry-After' => 1_000_000_000_000)) },
    { is => 'F46', what => 'paused', fails => qr/rateLimited: .*paused.*\Q$link\E/, no_order(limited(
        "Your account is temporarily prevented from requesting certificates for x: paused; visit $link")) },
    (map { { is => 'F05', what => "Retry-After \"$_\" while validating", soon => 1, rules => [
        { class => 'authz', from => 2, to => 3, json => 'not_yet', set => { headers => { 'Retry-After' => $_ } } }] } }
        '-5', '0', 'soon', '1e12', '', 'Thu, 01 Jan 1970 00:00:00 GMT'),
    { is => 'F06', what => 'Retry-After as a date', kept => 1, rules => [
        { class => 'authz', from => 2, to => 2, json => 'not_yet_date' }] },
    { is => 'F06', what => 'Retry-After as seconds', kept => 1, rules => [
        { class => 'authz', from => 2, to => 2, json => 'not_yet', set => { headers => { 'Retry-After' => SOON } } }] },
);
my $days = 'days.example.test';
my $server = faulty_server($pebble, $proxy, \@faults, config => vhosts($days));
$proxy->rule(name => $days, class => ['finalize', 'order'], json => 'days', path => 'finalize',
    set => { headers => { 'Retry-After' => DAY } });
$proxy->rule(name => $days, class => 'order', from => 2, json => 'days', set => { headers => { 'Retry-After' => DAY } });

subtest 'faults' => sub {
    ok $server->start, 'httpd starts' or return;
    check_faults($server, $proxy, @faults);
    for my $fault (grep { $_->{wait} } @faults) {
        my ($failed) = grep { $_->{name} eq $fault->{name} } events($server, 'AC0120');
        my $wait = (ledger($server, $fault->{name}) // {})->{next} - $failed->{time};
        cmp_ok $wait, '>=', $fault->{wait} - TOLD_SECONDS, "$fault->{is}: $fault->{what}: kept to";
        cmp_ok $wait, '<', $fault->{wait} + 2 * MINUTE, "$fault->{is}: $fault->{what}: and no longer";
    }
    for my $fault (grep { $_->{kept} } @faults) {
        my @at = map { $_->{time} } $proxy->requests(name => $fault->{name}, class => 'authz');
        cmp_ok $at[2] - $at[1], '>=', SOON - 0.1, "$fault->{is}: $fault->{what}: the next look comes then";
    }
    for my $fault (grep { $_->{soon} } @faults) {
        my @at = map { $_->{time} } $proxy->requests(name => $fault->{name}, class => 'authz');
        my @gaps = grep { $_ < 0.03 } map { $at[$_] - $at[$_ - 1] } 2 .. $#at;
        is "@gaps", '', "$fault->{is}: $fault->{what}: no tight loop";
    }
    # All the while an order was processed, and would have been for days.
    ok $proxy->wait_for(TOLD_SECONDS, 1, name => $days, class => 'finalize'), 'F05: an order that takes days';
    is_deeply [missing_names($server, $days)], [$days], 'F05: is not there yet';
    cmp_ok $proxy->count(name => $days, class => 'order'), '<=', 2, 'F05: and hardly asked for';
    heal_faults($server, $proxy, @faults);
    ok all_stored($server, OBTAIN_SECONDS, $days), 'F05: the order that took days is there';
    is scalar($proxy->orders(name => $days)), 1, 'F05: it is the first one';
    is $proxy->count(name => $days, class => 'finalize'), 1, 'F05: finalized once';
    ok $server->stop, 'httpd stops';
};

# What concerns the CA as a whole. Certificates that are there are served all the while.
subtest 'the whole CA' => sub {
    my $old_ca = make_ca('another CA');
    my $old_root = spit(Autocert::Server::work_dir() . '/old-ca.pem', $old_ca->{pem});
    my @names = map { "whole$_.example.test" } 1 .. 3;
    my $served = 'served.example.test';
    my $near = Autocert::Pebble->new(env => { PEBBLE_WFE_NONCEREJECT => 0 })->start;
    my $between = Autocert::FaultProxy->new(pebble => $near)->start;
    my $site = Autocert::Server->with_ca($near, vars => $between->vars, loglevel => 'notice autocert:debug',
        config => "AutocertEmail webmaster\@example.com\n" . vhosts($served, @names));
    $site->cache_put($served, cache_value(issue_pair($old_ca, [$served], not_before => -89 * DAY, not_after => DAY)));
    my $busy = { status => 503, body => '<html>maintenance</html>' };
    my $contact = Autocert::FaultProxy::problem(400, 'invalidContact', detail => 'example.com is forbidden');
    my $terms = Autocert::FaultProxy::problem(403, 'userActionRequired', detail => 'new terms',
        instance => 'https://ca.example/agree',
        headers => { Link => '<https://ca.example/terms>;rel="terms-of-service"' });
    # Each time as if nothing were known of the CA yet.
    for my $case (
        # what, class, answer, seconds until the next try, what the log has
        ['F04: 503 with seconds', 'newOrder', { %$busy, headers => { 'Retry-After' => 600 } }, 600, qr/503/],
        ['F04: 503 with a date', 'newOrder', { %$busy, headers => { 'Retry-After' => http_date(time + 1200) } }, 1200,
            qr/503/],
        ['F04: 503 with nothing', 'newOrder', $busy, 2, qr/503/],
        ['F04: a directory with 503', 'directory', { %$busy, headers => { 'Retry-After' => 900 } }, 900, qr/503/],
        ['F24: a contact that is refused', 'newAccount', $contact, HOUR, qr/invalidContact: example\.com is forbidden/],
    ) {
        my ($what, $class, $answer, $wait, $says) = @$case;
        # In this order: a CA that is well again would be used at once.
        $site->stop;
        $between->clear;
        my $before = $between->count(class => $class);
        $between->rule(class => $class, answer => $answer);
        # Without an account, so that one is asked for.
        unlink glob($site->cache . '/.autocert/account+*'), glob $site->cache . '/.autocert/ca+*';
        my $mark = $site->mark;
        ok $site->start, "$what: httpd starts" or return;
        my $said = wait_until(TOLD_SECONDS, sub { (events($site, 'AC0130', $mark))[0] });
        like $said && $said->{text}, qr/$says.*; certificates in the cache are served, next try/, "$what: the log says so";
        my ($next) = ($said ? $said->{text} : '') =~ /\(in (\d+) s\)$/;
        cmp_ok abs(($next // 0) - $wait), '<=', TOLD_SECONDS, "$what: next try in $wait s";
        my $seen = handshake(port => $site->https, sni => $served, ca => $old_root);
        ok $seen->{ok}, "$what: what is there is served" or diag $seen->{error};
        cmp_ok $between->count(class => $class) - $before, '<=', $wait > MINUTE ? @names + 1 : 20,
            "$what: hardly anything is sent";
        is count_events($site, 'AC0120', $mark), 0, "$what: no failure of a name";
    }
    # What the CA said would hold over a restart.
    $site->stop;
    $between->clear;
    unlink glob $site->cache . '/.autocert/ca+*';
    ok $site->start, 'well again';
    ok all_stored($site, OBTAIN_SECONDS, @names), 'F04: all names are obtained when it is over';
    ok $site->stop, 'httpd stops';

    # The terms change between two orders.
    my $late = 'late.example.test';
    $between->rule(class => 'newOrder', answer => $terms);
    my $orders = $between->count(class => 'newOrder');
    $site->write_config("AutocertCA \@pebble\@ cafile=\@cafile\@\nAutocertAcceptTOS on\n"
            . "AutocertCache dir:\@cache\@\n" . vhosts($served, @names, $late));
    my $mark = $site->mark;
    ok $site->start, 'F25: the CA has new terms' or return;
    ok $site->wait_for_log(qr{userActionRequired: new terms \(see https://ca\.example/agree\).*next try \d\d:\d\d},
        TOLD_SECONDS, $mark), 'F25: the log says where to agree, and when the next try is';
    cmp_ok $between->count(class => 'newOrder') - $orders, '<=', 2, 'F25: one request for each name that is due';
    is scalar(grep { !handshake(port => $site->https, sni => $_)->{ok} } $served, @names), 0,
        'F25: what is there is served';
    ok $site->stop, 'httpd stops';
};

done_testing;
