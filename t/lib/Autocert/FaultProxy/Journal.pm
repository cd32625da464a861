# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# What the processes of a FaultProxy and its test know together: one file that all append to under a
# lock and read from where they stopped. Entries, one JSON object a line, by their "is":
#   rule, clear       added and taken away by the test
#   match             a rule was for a request; by => -1 takes that back
#   url               this path belongs to that name
#   token             the bucket gave a token; by => -1 gives it back
#   request           a request and what it was answered
package Autocert::FaultProxy::Journal;

use strict;
use warnings;

use Fcntl qw(:flock SEEK_SET SEEK_END);
use JSON::PP ();
use List::Util qw(min);

my $json = JSON::PP->new->canonical->allow_nonref;

sub new
{
    my ($class, $file, %arg) = @_;
    open my $out, '>', $file or die "$file: $!\n";
    close $out;
    my $self = bless {
        file => $file, offset => 0, rate => $arg{rate}, rules => [], matches => {}, owner => {},
        requests => [], tokens => $arg{rate} ? $arg{rate}{capacity} : 0, filled => 0,
    }, $class;
    return $self;
}

# Call the function with all that is known, while nobody else adds to it.
sub look
{
    my ($self, $function) = @_;

    # Opened each time: a lock belongs to the open file, which a fork would share.
    open my $file, '+<:raw', $self->{file} or die "$self->{file}: $!\n";
    flock $file, LOCK_EX or die "$self->{file}: lock: $!\n";
    seek $file, $self->{offset}, SEEK_SET;
    while (my $line = <$file>) {
        $self->{offset} += length $line;
        $self->learn($json->decode($line));
    }
    seek $file, 0, SEEK_END;
    local $self->{out} = $file;
    my $result = $function->($self);
    close $file or die "$self->{file}: $!\n";
    return $result;
}

# Append entries; alone or inside the function of look().
sub add
{
    my ($self, @entries) = @_;
    return $self->look(sub { $self->add(@entries) }) unless $self->{out};
    for my $entry (@entries) {
        my $line = $json->encode($entry) . "\n";
        print { $self->{out} } $line or die "$self->{file}: $!\n";
        $self->{offset} += length $line;
        $self->learn($entry);
    }
    return;
}

sub learn
{
    my ($self, $entry) = @_;

    my $is = $entry->{is};
    if ($is eq 'rule') {
        push @{ $self->{rules} }, $entry->{rule};
    }
    elsif ($is eq 'clear') {
        my %gone = map { $_ => 1 } @{ $entry->{ids} };
        @{ $self->{rules} } = %gone ? grep { !$gone{ $_->{id} } } @{ $self->{rules} } : ();
    }
    elsif ($is eq 'match') {
        $self->{matches}{ $entry->{id} } += $entry->{by};
    }
    elsif ($is eq 'url') {
        $self->{owner}{ $entry->{path} } = $entry->{name};
    }
    elsif ($is eq 'token') {
        $self->fill($entry->{time});
        $self->{tokens} = min($self->{rate}{capacity}, $self->{tokens} - $entry->{by});
    }
    elsif ($is eq 'request') {
        push @{ $self->{requests} }, $entry;
    }
    return;
}

sub fill
{
    my ($self, $now) = @_;
    my $rate = $self->{rate};
    my $new = ($now - $self->{filled}) * $rate->{capacity} / $rate->{period};
    $self->{tokens} = min($rate->{capacity}, $self->{tokens} + $new) if $self->{filled};
    $self->{filled} = $now;
    return;
}

# Inside look(): take a token; 0, or the seconds until there is one.
sub take_token
{
    my ($self, $now) = @_;
    $self->fill($now);
    if ($self->{tokens} < 1) {
        return (1 - $self->{tokens}) * $self->{rate}{period} / $self->{rate}{capacity};
    }
    $self->add({ is => 'token', by => 1, time => $now });
    return 0;
}

# Inside look(): the rule that applies to a request, if any. All that match count it.
sub rule_for
{
    my ($self, $request) = @_;

    my $found;
    for my $rule (@{ $self->{rules} }) {
        next unless rule_matches($rule, $request);
        push @{ $request->{matched} }, $rule->{id};
        $self->add({ is => 'match', id => $rule->{id}, by => 1 });
        my $n = $self->{matches}{ $rule->{id} };
        next if $n < ($rule->{from} // 1) || (defined $rule->{to} && $n > $rule->{to});
        $found //= $rule;
    }
    return $found;
}

sub rule_matches
{
    my ($rule, $request) = @_;
    for my $key (qw(class name method)) {
        my $want = $rule->{$key} // next;
        my $have = $request->{$key} // return 0;
        return 0 unless grep { $_ eq $have } ref $want ? @$want : $want;
    }
    return !defined $rule->{path} || $request->{path} =~ /$rule->{path}/;
}

1;
