# Licensed under the Apache License, Version 2.0; see LICENSE.
# seconds: 200
#
# Renewal information (RFC 9773) of CAs that do it well, badly or not at all; orders that name the old
# certificate, and CAs that do not like that; profiles that a CA does not have or does not give.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);
use POSIX ();

use Autocert::Client qw(make_ca issue_pair cache_value);
use Autocert::Events qw(events count_events vhosts all_stored ledger change_ledger);
use Autocert::FaultProxy;
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until);

use constant {
    OBTAIN_SECONDS => 60,
    LIFETIME       => 40,       # half of it is left when the lifetime alone decides
    AGE            => 4,        # a tenth: how old a certificate must be before a window counts
    AGE_HASTY      => 8,        # a fifth: the same after one that was replaced so early
    BRIEF          => 12,       # another lifetime
    EARLY          => 2,        # seconds: the ledger has whole ones, and an order takes its time
    WINDOW_FROM    => 7,        # seconds after the question
    WINDOW_TO      => 9,
    HOUR           => 3600,
    DAY            => 86_400,
};

my $why = 'https://ca.example/why';
my $past = '2020-01-01T00:00:00Z';

sub moment
{
    my ($time) = @_;
    return POSIX::strftime('%Y-%m-%dT%H:%M:%SZ', gmtime $time);
}

sub window
{
    my ($start, $end, %headers) = @_;
    return { headers => { 'Content-Type' => 'application/json', %headers },
        json => { suggestedWindow => { start => $start, end => $end } } };
}

my %gone_by = (class => 'renewalInfo', answer => window($past, '2020-01-02T00:00:00Z'));
my $far = window(moment(time + 400 * DAY), moment(time + 401 * DAY));
my %edits = (
    soon => sub {
        my ($answer) = @_;
        $answer->{body} = JSON::PP::encode_json({ suggestedWindow => {
            start => moment(time + WINDOW_FROM), end => moment(time + WINDOW_TO) } });
    },
);

# A new Pebble with these profiles, name => lifetime, and a proxy before it.
sub new_ca
{
    my (%profiles) = @_;
    my %config = (profiles => { map { $_ => { description => $_, validityPeriod => $profiles{$_} } } keys %profiles });
    my $pebble = Autocert::Pebble->new(new => 1, env => { PEBBLE_WFE_NONCEREJECT => 0 }, config => \%config)->start;
    return ($pebble, Autocert::FaultProxy->new(pebble => $pebble, edits => \%edits)->start);
}

sub new_server
{
    my ($pebble, $proxy, %arg) = @_;
    return Autocert::Server->with_ca($pebble, vars => $proxy->vars, loglevel => 'notice autocert:debug', %arg);
}

# What the n-th certificate of a name is called. The proxy found the name by what it made of the certificate.
sub id_of
{
    my ($proxy, $name, $n) = @_;
    my @asked = $proxy->requests(class => 'renewalInfo', name => $name);
    my ($id) = ($asked[ $n - 1 ] // { path => '' })->{path} =~ m{([^/]+)$};
    return $id;
}

sub newest
{
    my ($server, $name) = @_;
    return map { $_->{time} } grep { $_->{name} eq $name } events($server, 'AC0110');
}

# Pebble itself answers 500 to a correct "replaces" for one certificate of 256: those answers.
sub own_faults
{
    my ($proxy, %want) = @_;
    return grep { !defined $_->{rule} } $proxy->requests(class => 'newOrder', status => 500, %want);
}

# Which members the requests for new orders had. What followed a fault of Pebble's own is left out.
sub members
{
    my ($proxy, $name, $member) = @_;
    my (@found, $skip);
    for my $request ($proxy->requests(class => 'newOrder', name => $name)) {
        push @found, $request->{payload}{$member} unless $skip;
        $skip = !$skip && $request->{status} eq '500' && !defined $request->{rule};
    }
    return @found;
}

# --- Certificates of seconds: all names are looked at when they have been renewed ---

my $no_order = sub {
    my ($to, @problem) = @_;
    return { class => 'newOrder', from => 2, to => $to, answer => Autocert::FaultProxy::problem(@problem) };
};
my $once = { %gone_by, to => 1 };
my $not_again = { class => 'renewalInfo', from => 2, answer => $far };
my @names = (
    # renewed when its lifetime says so, whatever the CA says about that
    (map { { is => 'F19', what => $_->[0], by => 'lifetime', told => $_->[2], rules => [
        { class => 'renewalInfo', answer => $_->[1] }] } }
        ['a window in the far future', $far, 0],
        ['asked again in a second', { %$far, headers => { %{ $far->{headers} }, 'Retry-After' => 1 } }, 0],
        ['asked again at once', { %$far, headers => { %{ $far->{headers} }, 'Retry-After' => -1 } }, 0],
        ['garbage', { body => 'junk' }, 1], ['an empty object', { json => {} }, 1],
        ['dates that are none', window('soon', 'later'), 1],
        ['a reversed window', window(moment(time), $past), 1], ['404', { status => 404 }, 1],
        ['500', { status => 500 }, 1],
        ['429 for a second', { status => 429, headers => { 'Retry-After' => 1 } }, 1]),
    { is => 'F16', what => 'alreadyReplaced', by => 'window', refused => 1, rules => [
        $once, $not_again, $no_order->(2, 409, 'alreadyReplaced')] },
    { is => 'F16', what => 'conflict', by => 'window', refused => 1, rules => [
        $once, $not_again, $no_order->(2, 409, 'conflict')] },
    { is => 'F16', what => '500 for a correct one', by => 'window', refused => 1, rules => [
        $once, $not_again, $no_order->(2, 500, 'serverInternal')] },
    { is => 'F16', what => 'conflict with and without, twice', by => 'window', refused => 1, attempts => 3, rules => [
        $once, $not_again, $no_order->(5, 409, 'conflict')] },
    { is => 'F18', what => 'a window of the past for every certificate', by => 'window', storm => 1,
        rules => [{%gone_by}] },
    { is => 'F18', what => 'a window that is to come', by => 'window', soon => 1, rules => [
        { class => 'renewalInfo', edit => 'soon', set => { headers => { 'Retry-After' => 21_600 } } }] },
    { is => 'F39', what => 'a profile that is not permitted', profiles => ['short', undef], rules => [
        { class => 'newOrder', to => 1, answer => Autocert::FaultProxy::problem(403, 'unauthorized') }] },
    { is => 'F39', what => 'a profile that has just vanished', profiles => ['short', undef], rules => [
        { class => 'newOrder', to => 1, answer => Autocert::FaultProxy::problem(400, 'invalidProfile') }] },
    { is => 'F39', what => 'a profile that is there', profiles => ['short'], rules => [] },
);
my $place = 0;
my ($pebble, $proxy) = new_ca(short => LIFETIME);
for my $case (@names) {
    $case->{name} = lc($case->{is}) . '-' . ++$place . '.example.test';
    $proxy->rule(%$_, name => $case->{name}) for @{ $case->{rules} };
}
my $server = new_server($pebble, $proxy, ca_keys => 'profile=short', config => vhosts(map { $_->{name} } @names));
ok $server->start, 'httpd starts' or exit 1;

# Meanwhile: CAs that must not hear of renewal information.
my $old = Autocert::Pebble->new(lifetime => BRIEF, env => { PEBBLE_WFE_NONCEREJECT => 0 })->start;
my ($new, $new_proxy) = new_ca(brief => BRIEF);
my @quiet = (['a CA without renewal information', $old, Autocert::FaultProxy->new(pebble => $old)->start, ''],
    ['ari=off', $new, $new_proxy, 'ari=off']);
for my $case (@quiet) {
    my ($what, $ca, $between, $keys) = @$case;
    my $quiet = new_server($ca, $between, ca_keys => $keys, config => vhosts('quiet.example.test'));
    ok $quiet->start, "$what: httpd starts" or exit 1;
    push @$case, $quiet;
}

subtest 'certificates of months' => sub {
    my ($storm, $moved, $lost, $foreign) = map { "$_.example.test" } qw(storm moved lost foreign);
    my ($ca, $between) = new_ca(long => 90 * DAY);
    $between->rule(%gone_by, name => [$storm, $lost]);
    my $rule = $between->rule(class => 'renewalInfo', name => $moved,
        answer => window(moment(time + 50 * DAY), moment(time + 52 * DAY)));
    my $site = new_server($ca, $between, ca_keys => 'profile=vanished',
        config => vhosts($storm, $moved, $lost, $foreign));
    my $again = sub {
        my ($what, %change) = @_;
        $site->stop;
        change_ledger($site, $_, %{ $change{$_} }) for keys %change;
        return ok $site->start, $what;
    };
    my $asked = sub {
        my ($name, $n) = @_;
        return $between->wait_for(OBTAIN_SECONDS, $n, class => 'renewalInfo', name => $name)
            && wait_until(OBTAIN_SECONDS, sub { (ledger($site, $name)->{'info-next'} // 0) > time });
    };
    my $renewed = sub {
        my ($name, $n) = @_;
        return wait_until(OBTAIN_SECONDS, sub { return newest($site, $name) >= $n });
    };

    ok $site->start, 'httpd starts' or return;
    ok $asked->($_, 1), "$_: the CA is asked when it is to be renewed" for $storm, $moved, $lost;
    my ($warned) = grep { $_->{name} eq $moved } events($site, 'AC0230');
    like $warned && $warned->{text}, qr/without the profile vanished: the CA has none/,
        'F39: a profile that the CA does not have';
    is_deeply [members($between, $moved, 'profile')], [undef], 'F39: is not sent';
    my $chosen = ledger($site, $moved)->{window}{chosen};
    cmp_ok abs($chosen - (time + 51 * DAY)), '<=', DAY + HOUR, 'F18: an instant in the window is chosen';

    # The question is due, and gets the same answer.
    my $mark = $site->mark;
    $again->('a restart', $moved => { 'info-next' => 1 }) or return;
    ok $asked->($moved, 2), 'the CA is asked again' or return;
    is ledger($site, $moved)->{window}{chosen}, $chosen, 'F18: the instant outlives a restart and the same answer';
    is count_events($site, 'AC0180', $mark), 0, 'which is nothing to talk about';
    is scalar(newest($site, $storm)), 1, 'F18: a window of the past does not make a certificate of seconds due';
    is $between->count(class => 'renewalInfo', name => $storm), 1, 'F18: nor brings a question';

    # The window moves; and two hours pass for two certificates.
    $between->clear($rule);
    my $answer = window($past, '2020-01-02T00:00:00Z');
    $answer->{json}{explanationURL} = $why;
    $between->rule(class => 'renewalInfo', name => $moved, answer => $answer);
    my $old_ca = make_ca('another CA');
    $site->cache_put($foreign, cache_value(issue_pair($old_ca, [$foreign],
        not_before => -80 * DAY, not_after => 10 * DAY)));
    $again->('two hours later', $moved => { 'info-next' => 1, issued => time - 2 * HOUR },
        $storm => { issued => time - 2 * HOUR }) or return;
    ok $renewed->($_, 2), "F18: $_: renewed at once when it is old enough" for $moved, $storm;
    my ($told) = events($site, 'AC0180');
    is $told && $told->{name}, $moved, 'the log says that the window moved';
    like $told && $told->{text}, qr/now wants it renewed between 2020-01-01/, 'and where to';
    my ($explained) = events($site, 'AC0181');
    like $explained && $explained->{text}, qr/\Q$why\E/, 'and why';
    is_deeply [members($between, $_, 'replaces')], [undef, id_of($between, $_, 1)],
        "RFC 9773 5: $_: the order names the certificate that it replaces" for $moved, $storm;
    ok $renewed->($foreign, 2), 'a certificate of another CA is renewed';
    is_deeply [members($between, $foreign, 'replaces')], [undef, undef], 'F17: and not named to this one';

    # Another account has no certificates.
    ok $asked->($_, $_ eq $moved ? 4 : 2), "$_: the CA is asked about the new one" for $moved, $storm;
    is count_events($site, 'AC0181'), 2, 'the log explains each certificate once';
    $site->stop;
    unlink glob($site->cache . '/.autocert/account+*'), $site->cache_file('acme_account+key');
    $again->('another account, two hours later', $_ => { issued => time - 2 * HOUR }) or return for $lost;
    ok $renewed->($lost, 2), 'a certificate of another account is renewed';
    is_deeply [members($between, $lost, 'replaces')], [undef, undef], 'F17: and not named to the new one';

    # It came early for the sake of a window once: now two hours are not enough.
    $again->('two more hours later', $storm => { issued => time - 2 * HOUR }) or return;
    $mark = $site->mark;
    $again->('a question is due', $moved => { 'info-next' => 1 }) or return;
    ok $asked->($moved, 5), 'all are looked at';
    is count_events($site, 'AC0181'), 2, 'the same explanation a second time is not told';
    is scalar(newest($site, $storm)), 2, 'F18: the same window a second time makes it wait longer';
    is count_events($site, 'AC0120'), 0, 'nothing failed';
    is count_events($site, 'AC0233'), scalar(own_faults($between)), 'no successor was refused';
    ok $site->stop, 'httpd stops';
};

subtest 'no renewal information' => sub {
    for my $case (@quiet) {
        my ($what, undef, $between, undef, $quiet) = @$case;
        my $name = 'quiet.example.test';
        ok wait_until(OBTAIN_SECONDS, sub { newest($quiet, $name) >= 2 }), "F17: $what: renewed";
        is $between->count(class => 'renewalInfo'), 0, "F17: $what: it is not asked for";
        is scalar(grep { defined } members($between, $name, 'replaces')), 0, "F17: $what: no order names the old one";
        is count_events($quiet, 'AC0182'), 0, "F17: $what: and nobody misses it";
        ok $quiet->stop, "$what: httpd stops";
    }
};

# Each certificate of a name costs one question at most: there is a minute between two.
sub check_questions
{
    my ($case, $say) = @_;
    my %asked;
    $asked{ $_->{path} }++ for $proxy->requests(class => 'renewalInfo', name => $case->{name});
    is scalar(grep { $_ > 1 } values %asked), 0, "$say: one question for each certificate";
    cmp_ok scalar(keys %asked), '>=', 1, "$say: which is asked";
    return;
}

sub check_renewal
{
    my ($case, $say) = @_;

    my $name = $case->{name};
    my @at = newest($server, $name);
    my $took = $at[1] - $at[0];
    if ($case->{by} eq 'lifetime') {
        cmp_ok $took, '>=', LIFETIME * 0.48 - EARLY, "$say: renewed by the lifetime";
        my @told = grep { $_->{name} eq $name } events($server, 'AC0182');
        is scalar(@told) > 0, !!$case->{told}, "$say: " . ($case->{told} ? 'told' : 'nothing to tell');
    }
    else {
        my $least = $case->{soon} ? WINDOW_FROM : AGE;
        cmp_ok $took, '>=', $least - EARLY, "$say: not too early";
        cmp_ok $took, '<', LIFETIME * 0.48 - EARLY, "$say: before the lifetime asks for it";
    }
    cmp_ok $at[2] - $at[1], '>=', AGE_HASTY - EARLY, "$say: and slower after that" if $case->{storm} && @at > 2;
    return;
}

sub check_replaces
{
    my ($case, $say) = @_;
    my @sent = members($proxy, $case->{name}, 'replaces');
    my $id = id_of($proxy, $case->{name}, 1);
    my $attempts = $case->{attempts} // 1;
    my @expected = (undef, $case->{refused} && !$case->{attempts} ? ($id, undef)
        : ((map { ($id, undef) } 2 .. $attempts), $id));
    is_deeply [@sent[0 .. $#expected]], \@expected, "$say: the new order names the old certificate"
        . ($case->{refused} ? ', and once more without' : '');
    my $said = grep { $_->{name} eq $case->{name} } events($server, 'AC0233');
    my $own = () = own_faults($proxy, name => $case->{name});
    my $refused = $case->{refused} ? ($attempts > 1 ? $attempts - 1 : 1) : 0;
    is $said, $refused + $own, "$say: the log says how it went";
    return;
}

subtest 'certificates of seconds' => sub {
    my @renewing = grep { $_->{by} } @names;
    ok wait_until(OBTAIN_SECONDS, sub {
        return !grep { newest($server, $_->{name}) < ($_->{storm} ? 3 : 2) } @renewing;
    }), 'all are renewed';
    for my $case (@names) {
        my $say = "$case->{is}: $case->{what}";
        if ($case->{by}) {
            check_renewal($case, $say);
            check_questions($case, $say);
            check_replaces($case, $say);
            next;
        }
        my @sent = members($proxy, $case->{name}, 'profile');
        my $last = $#{ $case->{profiles} };
        is_deeply [@sent[0 .. $last]], $case->{profiles}, "$say: what was ordered";
        my @warned = grep { $_->{name} eq $case->{name} } events($server, 'AC0230');
        is scalar(@warned) > 0, $last > 0, "$say: " . ($last ? 'with a warning' : 'without a warning');
        ok -s $server->cache_file($case->{name}), "$say: obtained";
    }
    ok $server->stop, 'httpd stops';
};

done_testing;
