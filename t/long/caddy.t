# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# A CA of another make: Caddy's, in the packaged version and in the newer one. Both ways to prove a
# name, renewal, and what it does otherwise than the others: no terms and no meta, validation while the
# client waits for the answer, authorizations that stay pending for ever after their challenge failed,
# problems without a status, accounts that are gone or not wanted any more.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use JSON::PP ();

use Autocert::Caddy;
use Autocert::Client qw(handshake https_get load_start load_stop make_ca issue_pair cache_value);
use Autocert::Dns;
use Autocert::Events qw(events count_events all_stored ledger);
use Autocert::Jws qw(signed_post);
use Autocert::Namespace;
use Autocert::Server;
use Autocert::Util qw(wait_until slurp);

use constant {
    OBTAIN_SECONDS => 60,
    LIFETIME       => '5m',        # the least, and a certificate begins a minute before it is issued
    SHARE          => 80,          # percent of all that, left when it is renewed: seconds after the issue
    RENEW_SECONDS  => 90,
    ELSEWHERE      => '127.0.0.9', # where another server answers
    DAY            => 86_400,
};

my %TYPES = (http => 'http-01', alpn => 'tls-alpn-01');

my $refused = Autocert::Namespace::enter();
my $dns;
$dns = Autocert::Dns->new(port => 53)->start unless defined $refused;

# Names begin with how they are to be proved.
sub config
{
    my (@names) = @_;
    # No terms are agreed to: this CA has none.
    return join '', "AutocertCA \@pebble\@ cafile=\@cafile\@\nAutocertCache dir:\@cache\@\n"
        . "AutocertRenewBefore @{[SHARE]}%\n", map { <<"CONF" } @names;
<VirtualHost *:\@https\@>
    AutocertDomain $_
    AutocertChallenges @{[ types($_) ]}
</VirtualHost>
CONF
}

sub types
{
    my ($name) = @_;
    return join ' ', map { $TYPES{$_} // () } split /[.-]/, $name;
}

my @running;

sub new_caddy
{
    push @running, Autocert::Caddy->new(@_)->start;
    return $running[-1];
}

sub new_server
{
    my ($caddy, @names) = @_;
    push @running, Autocert::Server->new(http => $caddy->http, https => $caddy->https,
        vars => $caddy->vars, loglevel => 'notice autocert:debug', config => config(@names));
    return $running[-1];
}

# However it ends, the ports are free for the next.
sub alone
{
    my ($name, $code) = @_;
    subtest $name => sub {
        $code->();
        while (my $one = pop @running) {
            $one->stop;
        }
    };
    return;
}

# A subtest that needs the ports and the names of a namespace.
sub inside
{
    my ($name, $code) = @_;
    return alone($name, $code) unless defined $refused;
    return fail "$name: namespaces are refused ($refused), and CI is to have them"
        if ($ENV{CI} // '') eq 'true';
    diag "not tested, as namespaces are refused ($refused): $name";
  SKIP: { skip "namespaces are refused: $name", 1 }
    return;
}

# One more name in a running server: it is obtained.
sub one_more
{
    my ($server, $what, @names) = @_;
    $server->write_config(config(@names));
    ok $server->graceful, "$what: one more name" or return 0;
    return ok all_stored($server, OBTAIN_SECONDS, $names[-1]), "$what: it is obtained";
}

sub issuance
{
    my ($new) = @_;

    my $caddy = new_caddy(new => $new);
    my ($http, $alpn, $due, $kept, $again) =
        map { "$_.example.test" } qw(http alpn alpn-due http-kept alpn-again);
    my $server = new_server($caddy, $http, $alpn, $due);
    my $answer = https_get(port => $caddy->port, sni => 'localhost', ca => $caddy->cafile,
        path => '/acme/local/directory');
    is_deeply(JSON::PP::decode_json($answer->{body})->{meta}, $new ? undef : {},
        'F42: the CA has ' . ($new ? 'no meta' : 'an empty meta'));
    my $old_ca = make_ca('another CA');
    $server->cache_put($due, cache_value(
        issue_pair($old_ca, [$due], not_before => -60 * DAY, not_after => DAY)));
    ok $server->start, 'httpd starts' or return;
    my $root = $caddy->root;
    my $served = sub {
        return !grep { !handshake(port => $server->https, sni => $_, ca => $root)->{ok} } @_;
    };
    ok wait_until(OBTAIN_SECONDS, sub { $served->($http, $alpn, $due) }),
        'F42: all names are served although no terms are agreed to' or return;
    my %text;
    wait_until(OBTAIN_SECONDS, sub {
        %text = map { $_->{name} => $_->{text} } events($server, 'AC0110');
        return keys %text == 3;
    });
    like $text{$http}, qr/^obtained from .* by http-01 /, 'one by http-01';
    like $text{$alpn}, qr/^obtained from .* by tls-alpn-01 /, 'one by tls-alpn-01';
    like $text{$due}, qr/^renewed from .* by tls-alpn-01 /, 'one in place of one that was due';
    is $caddy->accounts, 1, 'with one account';
    is $caddy->orders, 3, 'and an order for each';

    my $key = slurp($server->cache_file('acme_account+key'));
    $caddy->stop;
    $caddy->start;
    one_more($server, 'a restart of the CA', $http, $alpn, $due, $kept) or return;
    is $caddy->accounts, 1, 'a restart of the CA: it knows the account';

    $caddy->stop;
    $caddy->forget;
    $caddy->start;
    my $mark = $server->mark;
    my $what = 'F26: a CA that forgot everything';
    # The packaged one answers 500 and {}, as a CA that is unwell would.
    one_more($server, $what, $http, $alpn, $due, $kept, $again) or return;
    is $caddy->accounts, 2, "$what: a new account";
    like $server->log_since($mark), qr/AC0209: /, "$what: the log says why";
    is slurp($server->cache_file('acme_account+key')), $key, "$what: the key stays";
    is count_events($server, 'AC0120'), 0, "$what: and no name failed";
    ok $served->($http, $alpn, $due, $kept), "$what: what there is is served";
    return;
}

sub renewal
{
    my ($caddy, @names) = @_;

    my $server = new_server($caddy, @names);
    ok $server->start, 'httpd starts' or return;
    my $root = $caddy->root;
    my %serial;
    ok wait_until(OBTAIN_SECONDS, sub {
        for my $name (grep { !$serial{$_} } @names) {
            $serial{$name} = handshake(port => $server->https, sni => $name, ca => $root)->{serial};
        }
        return !grep { !$serial{$_} } @names;
    }), 'all names are served' or return;
    my @loads = map { load_start(port => $server->https, ca => $root, sni => \@names, path => '/',
        pause => 0.05) } 1 .. 2;
    ok wait_until(RENEW_SECONDS, sub {
        return !grep {
            my $seen = handshake(port => $server->https, sni => $_, ca => $root);
            !$seen->{ok} || $seen->{serial} eq $serial{$_};
        } @names;
    }), 'each has another certificate in time';
    my %text;
    wait_until(OBTAIN_SECONDS, sub {
        %text = map { $_->{name} => $_->{text} } grep { $_->{text} =~ /^renewed/ }
            events($server, 'AC0110');
        return keys %text == @names;
    });
    for my $name (@names) {
        my $type = types($name);
        like $text{$name}, qr/^renewed from .* by $type /, "$name is renewed by $type";
    }
    for my $load (@loads) {
        my $result = load_stop($load);
        is $result->{failed}, 0, "no visit failed of $result->{ok}" or diag $result->{error};
    }
    is $caddy->accounts, 1, 'one account did it';
    is count_events($server, 'AC0120'), 0, 'nothing failed';
    return;
}

# Names that lead to another server for one kind of challenge, or for the only one.
sub wrong_content
{
    my ($new) = @_;

    my $caddy = new_caddy(new => $new);
    my ($wrong, $two, $good) = map { "$_.example.test" } qw(http-wrong http-alpn http-good);
    my $elsewhere = Autocert::Server->new(name => "elsewhere$new", module => 0, listen => 0,
        config => "Listen @{[ELSEWHERE]}:80\nAliasMatch ^/\\.well-known/ \@htdocs\@/index.html\n");
    push @running, $elsewhere;
    ok $elsewhere->start, 'another server runs' or return;
    $dns->set('add-a', host => $_, addresses => [ELSEWHERE]) for $wrong, $two;
    my $server = new_server($caddy, $wrong, $two, $good);
    $server->write_config("Listen @{[ELSEWHERE]}:\@https\@ https\n" . config($wrong, $two, $good));
    ok $server->start, 'httpd starts' or return;
    ok all_stored($server, OBTAIN_SECONDS, $good), 'a name that leads here is obtained';
    ok all_stored($server, OBTAIN_SECONDS, $two), 'F30: the next kind is tried for one that half does';
    my ($obtained) = wait_until(OBTAIN_SECONDS, sub {
        return (grep { $_->{name} eq $two } events($server, 'AC0110'))[0];
    });
    like $obtained && $obtained->{text}, qr/ by tls-alpn-01 /, 'F30: which proves it';
    my $failed = wait_until(OBTAIN_SECONDS, sub { (events($server, 'AC0120'))[0] });
    ok $failed, 'F30: one that does not fails' or return;
    is $failed->{name}, $wrong, 'F30: and is named';
    like $failed->{text}, qr/^not obtained from localhost:\d+: \w+: http-01 \S.*; next try \d\d:\d\d$/,
        "F30: with the CA's words, and when the next try is";
    my @looks = grep { $_->{name} eq $wrong } events($server, 'AC0227');
    is $looks[-1]{text}, 'the authorization is pending, http-01 is invalid',
        'F30: although the CA left the authorization as it was';
    is ledger($server, $wrong)->{failures}, 1, 'F30: it is one failure';
    is $caddy->orders, 4, 'F30: of one order';
    $dns->set('clear-a', host => $_) for $wrong, $two;
    return;
}

# As the account's owner: the problem that the CA answers with, and its HTTP status.
sub ask
{
    my ($caddy, $server, $account, $path, $payload) = @_;
    my $answer = signed_post(ca => $caddy, nonce => '/acme/local/new-nonce', path => $path,
        account => 'https://localhost:' . $caddy->port . $account,
        key => $server->cache_file('acme_account+key'), payload => $payload);
    return (JSON::PP::decode_json($answer->{body}), $answer->{status});
}

sub refusals
{
    my ($new) = @_;

    my ($good, $denied, $late) = map { "http-$_.example.test" } qw(good denied late);
    my $caddy = new_caddy(new => $new, $new ? (deny => [$denied]) : ());
    my @names = ($good, $new ? $denied : ());
    my $server = new_server($caddy, @names);
    ok $server->start, 'httpd starts' or return;
    ok all_stored($server, OBTAIN_SECONDS, $good), 'a name is obtained' or return;
    my $account = $server->wait_for_log(qr{AC0207: .* the account https://localhost:\d+(/\S+)}) or return;
    my $order = { identifiers => [{ type => 'dns', value => $denied }] };
    if ($new) {
        my ($problem, $status) = ask($caddy, $server, $account, '/acme/local/new-order', $order);
        is $status, 400, 'F11: a denied name is answered with 400';
        ok !exists $problem->{status}, 'F11: which the problem does not tell';
        my $failed = wait_until(OBTAIN_SECONDS, sub { (events($server, 'AC0120'))[0] });
        is $failed && $failed->{name}, $denied, 'F11: it fails';
        like $failed && $failed->{text},
            qr/^not obtained from localhost:\d+: rejectedIdentifier: \S.*; next try \d{4}-\d\d-\d\d \d\d:\d\d UTC$/,
            'F11: because the CA refuses it, which waits for somebody who changes something, or a day';
    }

    my ($answer, $done) = ask($caddy, $server, $account, $account, { status => 'deactivated' });
    is $answer->{status}, 'deactivated', "the account's owner ends it" or return;
    my ($problem, $status) = ask($caddy, $server, $account, '/acme/local/new-order', $order);
    is $status, 401, 'F11: an account that was ended is answered with 401';
    like $problem->{type}, qr/:unauthorized$/, 'F11: and "unauthorized"';
    my $mark = $server->mark;
    $server->write_config(config(@names, $late));
    ok $server->graceful, 'one more name' or return;
    my $failed = wait_until(OBTAIN_SECONDS, sub { (events($server, 'AC0130', $mark))[0] });
    like $failed && $failed->{text}, qr/^CA localhost:\d+: unauthorized: \S.*, next try \d\d:\d\d \(in \d+ s\)$/,
        'F11: the log says why nothing is obtained from this CA, and when it is tried again';
    is count_events($server, 'AC0120', $mark), 0, 'F11: it is no failure of the name';
    is $caddy->accounts, 1, 'F26: no account is made with a key that is no longer wanted';
    ok handshake(port => $server->https, sni => $good, ca => $caddy->root)->{ok},
        'F11: what there is is served';
    return;
}

alone 'http-01 through a proxy, and renewal' => sub {
    renewal(new_caddy(new => 1, proxied => 1, lifetime => LIFETIME), 'http.example.test');
};
inside 'renewal' => sub {
    renewal(new_caddy(new => 1, lifetime => LIFETIME), 'http.example.test', 'alpn.example.test');
};
for my $new (0, 1) {
    my $which = $new ? 'newer' : 'packaged';
    inside "$which: issuance" => sub { issuance($new) };
    inside "$which: wrong content" => sub { wrong_content($new) };
    inside "$which: refusals" => sub { refusals($new) };
}

done_testing;
